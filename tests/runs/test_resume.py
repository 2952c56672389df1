"""A stopped run goes on to the same weights."""

from pathlib import Path

import mlflow
import numpy as np
import pytest

from conftest import QUICK, composed, runs_in
from fmnist.common.errors import ConfigError
from fmnist.runs.run import run
from fmnist.training.callbacks import StopAtDivergence

STOPPING = ("callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=0.2")
SIZED = (*QUICK[:-1], "training.epochs=5", "model=selu_dropout", "optimizer=adam", *STOPPING)


class Died(Exception):
    """What a test ends a run with."""


@pytest.fixture
def dies(monkeypatch):
    """`dies(epoch)`: the next run ends there, its checkpoint written, but not its snapshot."""
    usual = StopAtDivergence.on_epoch_end

    def dies(after):
        def on_epoch_end(self, epoch, logs=None):
            if epoch + 1 == after:
                monkeypatch.setattr(StopAtDivergence, "on_epoch_end", usual)
                raise Died
            usual(self, epoch, logs)

        monkeypatch.setattr(StopAtDivergence, "on_epoch_end", on_epoch_end)

    return dies


def digests(folder: Path) -> list[object]:
    found = []
    for one in runs_in(folder):
        content = mlflow.artifacts.load_dict(f"{one.info.artifact_uri}/digests.json")
        found.append(content)
    return found


@pytest.fixture(scope="module", params=["compiled", pytest.param("keras", marks=pytest.mark.slow)])
def whole(request, tmp_path_factory):
    """What is asked of an engine, what comes of it if nothing befalls it, and its store."""
    asked, folder = (*SIZED, f"training.engine={request.param}"), tmp_path_factory.mktemp("whole")
    return asked, run(composed(folder, *asked)), folder


@pytest.mark.parametrize("after", [1, 3])
def test_a_run_that_died_goes_on_to_the_same_weights(tmp_path, dies, whole, after):
    asked, expected, undisturbed = whole
    stopped = tmp_path / "stopped"
    dies(after)
    with pytest.raises(Died):
        run(composed(stopped, *asked))
    [failed] = runs_in(stopped)
    assert failed.info.status == "FAILED"
    result = run(composed(stopped, f"resume={failed.info.run_id}"))
    [tracked] = runs_in(stopped)  # the same run
    assert (tracked.info.run_id, tracked.info.status) == (failed.info.run_id, "FINISHED")
    assert digests(stopped) == digests(undisturbed)
    for own, other in zip(result.model.get_weights(), expected.model.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    assert "error" not in tracked.data.tags and tracked.data.tags["resumed"] == "1"
    client = mlflow.MlflowClient(f"sqlite:///{stopped}/mlflow.db")
    for name in ("val_loss", "dead_units"):
        steps = [point.step for point in client.get_metric_history(tracked.info.run_id, name)]
        assert steps == list(range(1, 1 + len(result.history["loss"])))
    pictures = client.list_artifacts(tracked.info.run_id, "images")
    assert len(pictures) == 2 * (1 + len(steps))
    assert not (stopped / "snapshot.npz").exists()
    with pytest.raises(ConfigError, match="is finished"):
        run(composed(stopped, f"resume={failed.info.run_id}"))


def test_a_run_with_other_code_data_or_libraries_does_not_go_on(tmp_path, dies):
    dies(1)
    with pytest.raises(Died):
        run(composed(tmp_path, *SIZED))
    [failed] = runs_in(tmp_path)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.set_tag(failed.info.run_id, "signature", "another")
    client.set_tag(failed.info.run_id, "code.digest", "another")
    with pytest.raises(ConfigError, match="code of fmnist/ another, here "):
        run(composed(tmp_path, f"resume={failed.info.run_id}"))
    client.set_tag(failed.info.run_id, "output_dir", str(Path.home()))
    with pytest.raises(ConfigError, match="is not here"):
        run(composed(tmp_path, f"resume={failed.info.run_id}"))
    for run_id in ("nowhere", "../../etc", "x" * 9000):
        with pytest.raises(ConfigError, match="there is no such run in this store"):
            run(composed(tmp_path, f"resume='{run_id}'"))


def test_a_callback_that_would_undo_a_resumption_is_refused(config):
    asked = "+callbacks.x._target_=keras.callbacks.BackupAndRestore"
    with pytest.raises(ConfigError, match=r"callbacks\.x: not needed"):
        run(config(*QUICK, asked, "+callbacks.x.backup_dir=${output_dir}/backup"))


def test_a_csv_log_goes_on_as_if_nothing_had_happened(tmp_path, dies):
    csv = ("+callbacks.csv._target_=keras.callbacks.CSVLogger",)
    csv += ("+callbacks.csv.filename=${output_dir}/log.csv", "callbacks.layer_health=null")
    dies(2)
    with pytest.raises(Died):
        run(composed(tmp_path, *QUICK[:-1], "training.epochs=3", *csv))
    run(composed(tmp_path, f"resume={runs_in(tmp_path)[0].info.run_id}"))
    header, *rows = (tmp_path / "log.csv").read_bytes().split(b"\r\n")[:-1]
    assert header.startswith(b"epoch,accuracy")
    assert [row.partition(b",")[0] for row in rows] == [b"0", b"1", b"2"]
