"""Whatever becomes of the checkpoint, trained weights get their scores."""

from types import SimpleNamespace

import pytest

from conftest import QUICK
from fmnist.config.instantiate import instantiate
from fmnist.training import evaluation, trainer

OBSERVER = SimpleNamespace(
    on_train_begin=lambda progress: None, update=lambda: None, on_train_end=lambda: None
)


@pytest.fixture
def evaluated(config, tmp_path):
    """`evaluated(*overrides, spoil)`: scores and digests of a run; `spoil` may change its files."""

    def evaluate(*overrides, spoil=lambda path: None):
        settings = config(*QUICK, "training.engine=keras", *overrides)
        prepared = trainer.prepare(settings, instantiate("data", settings.data))
        fitted = trainer.fit(prepared, "run", None, OBSERVER, None)
        spoil(tmp_path / "best.keras")
        return evaluation.evaluate(prepared, fitted)

    return evaluate


def test_the_best_weights_are_those_of_a_file_that_names_the_epoch(evaluated, tmp_path):
    file = 'callbacks.checkpoint.filepath="${output_dir}/{epoch}-{val_loss:.3f}.weights.h5"'
    scores, digests = evaluated(file, "+callbacks.checkpoint.save_weights_only=true")
    name = f"{scores['best_epoch']}-{scores['best_val_loss']:.3f}.weights.h5"
    assert (tmp_path / name).is_file() and "best" in digests


@pytest.mark.parametrize(
    ("overrides", "spoil", "reason"),
    [
        (
            ["+callbacks.checkpoint.initial_value_threshold=0.01"],
            lambda path: None,
            "val_loss was never better than 0.01",
        ),
        ([], lambda path: path.write_bytes(b"PK"), "File is not a zip file"),
    ],
)
def test_without_a_best_checkpoint_the_last_weights_remain(
    evaluated, overrides, spoil, reason, caplog
):
    scores, digests = evaluated(*overrides, spoil=spoil)
    assert {"last_val_accuracy", "last_test_loss"} <= scores.keys()
    assert not any(key.startswith("best") for key in [*scores, *digests])
    [warning] = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warning.startswith("no best checkpoint, so the last weights are kept: ")
    assert reason in warning
