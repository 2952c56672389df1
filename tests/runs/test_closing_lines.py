"""What a run prints at its end can be understood, and typed."""

from types import SimpleNamespace

import pytest

from fmnist.config.schema import SCORES
from fmnist.runs import closing_lines

RESULT = SimpleNamespace(
    scores={f"{weights}_{name}": 0.5 for weights in ("best", "last") for name in SCORES}
    | {"best_epoch": 1},
    history={"loss": [0.4, 0.3]},
)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed=1", "best: the epoch with the lowest val_loss; callbacks.checkpoint.monitor"),
        ("callbacks.checkpoint.monitor=val_accuracy", "with the highest val_accuracy; "),
        ("+callbacks.checkpoint.mode=max", "with the highest val_loss; "),
    ],
)
def test_the_table_says_what_best_means(config, override, words):
    assert words in closing_lines.scores(RESULT, config(override)).splitlines()[-1]


def test_without_a_checkpoint_no_epoch_is_best(config):
    assert "best:" not in closing_lines.scores(RESULT, config("callbacks=none"))
