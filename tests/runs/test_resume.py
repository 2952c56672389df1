"""A stopped run goes on to the same weights; what a silent store does not take is sent later."""

import json
import time
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest

from conftest import QUICK, composed, runs_in
from fmnist.common.errors import ConfigError
from fmnist.common.files import file_lock, is_held, replacing
from fmnist.config import recorded
from fmnist.runs.run import run
from fmnist.tracking import delivery_queue
from fmnist.tracking.delivery_queue import UndeliveredError
from fmnist.training.callbacks import Checkpoint, StopAtDivergence
from fmnist.training.state import Snapshot

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


@pytest.fixture(scope="module", params=["compiled", "keras"])
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


def test_a_snapshot_holds_arrays_numbers_and_words(tmp_path):
    state = {"best": 0.1, "weights": [np.arange(3.0)], "seen": {"x": None}, "scalar": np.float32(2)}
    kept = Snapshot("id", 3, True, [np.eye(2)], [state])
    kept.save(tmp_path / "snapshot.npz")
    found = Snapshot.load(tmp_path, "id")
    assert (found.epochs, found.stopped) == (3, True)
    np.testing.assert_array_equal(found.variables[0], np.eye(2))
    np.testing.assert_array_equal(found.callbacks[0]["weights"][0], np.arange(3.0))
    assert found.callbacks[0]["seen"] == {"x": None} and found.callbacks[0]["scalar"] == 2
    assert Snapshot.load(tmp_path, "another") is None


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(OSError, match="what was there before is kept"), replacing(path) as beside:
        beside.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    with replacing(path) as beside:
        beside.write_text("after")
    assert path.read_text() == "after"


def test_a_lock_is_held_by_one(tmp_path):
    assert not is_held(tmp_path / "lock")
    with file_lock(tmp_path / "lock", 0):
        assert is_held(tmp_path / "lock")
    assert not is_held(tmp_path / "lock")


def test_a_checkpoint_may_name_the_epoch(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    callback = Checkpoint(str(tmp_path / "{epoch:02d}.keras"), monitor="loss")
    model.fit(np.ones((4, 1)), np.ones(4), epochs=2, verbose=0, callbacks=[callback])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["01.keras", "02.keras"]


def test_an_outbox_delivers_in_order_what_failed_at_first(caplog):
    delivered, failures = [], [OSError("down"), OSError("down")]

    def first():
        if failures:
            raise failures.pop()
        delivered.append(1)

    with delivery_queue.opened(timeout=10) as opened:
        opened.send(first)
        opened.send(lambda: delivered.append(2))
        opened.flush()
        assert delivered == [1, 2]
        assert opened.call_with_retry(lambda: 3) == 3
    assert len(caplog.messages) == 1 and "training goes on" in caplog.messages[0]


def test_an_outbox_tells_now_and_then_that_its_process_lives(monkeypatch):
    monkeypatch.setattr(delivery_queue, "HEARTBEAT_INTERVAL", 0.05)
    beats = []
    with delivery_queue.opened(timeout=1) as opened:
        opened.heartbeat = lambda: beats.append(time.monotonic())
        time.sleep(1)
    assert len(beats) >= 3


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


def test_an_outbox_gives_up_when_its_patience_is_over():
    def fails():
        raise OSError("still down")

    with delivery_queue.opened(timeout=0.5) as opened:
        opened.send(fails)
        started = time.monotonic()
        with pytest.raises(UndeliveredError, match="still down"):
            opened.flush()
        assert time.monotonic() - started < 5


def changed(text: str, path: str, value: object) -> str:
    values = json.loads(text)
    *parents, last = path.split(".")
    node = values
    for parent in parents:
        node = node[parent]
    node[last] = value
    return json.dumps(values)


def test_a_recorded_configuration_is_read_back_in_another_folder(config):
    given = config("+optimizer.weight_decay=0.1")
    text = recorded.record(given)
    found = recorded.config_of(text, "/elsewhere", given.tracking.uri)
    assert found.params() == given.params()
    assert found.callbacks["checkpoint"]["filepath"] == "/elsewhere/best.keras"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("optimizer._target_", "os.system", "is not built from a recorded configuration"),
        ("callbacks.x", {"_target_": "os.system", "command": "touch x"}, "is not built"),
        ("callbacks.x", {"_target_": "keras.callbacks.RemoteMonitor"}, "is not built"),
        ("data.dir", {"_target_": "os.system"}, "is not built"),
        ("optimizer.clipnorm", {"_target_": "keras.src.saving.saving_lib.H5IOStore"}, "not built"),
        ("optimizer._args_", ["x"], "_args_: is not read from a recorded configuration"),
        ("callbacks.checkpoint.filepath", "/tmp/x.keras", "reaches out of the folder"),
        ("callbacks.checkpoint.filepath", "x.keras", "reaches out of the folder"),
        ("callbacks.checkpoint.filepath", "${output_dir}-x/x.keras", "reaches out of the folder"),
        ("callbacks.checkpoint.filepath", "${output_dir}/../x.keras", "reaches out of the folder"),
        ("callbacks.tensorboard.log_dir", "gs://bucket/x", "reaches out of the folder"),
        ("callbacks.checkpoint.filepath", "~/x.keras", "reaches out of the folder"),
        ("data.dir", "${oc.env:HOME}", "reaches out of the folder"),
        ("output_dir", "/", "does not affect the result"),
        ("optimizer.learning_rate", -1, "must be above 0"),
        ("training.epochs", "many", "training.epochs"),
        ("callbacks", 3, "callbacks: must be a mapping"),
        ("model", "relu", "Merge error"),
        ("speed", 1, "speed: no such key"),
    ],
)
def test_a_tampered_configuration_is_refused(config, path, value, message):
    text = recorded.record(config())
    with pytest.raises(ConfigError, match=message):
        recorded.config_of(changed(text, path, value), "/elsewhere", None)


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "null", "3", "9" * 5000, " " * 2_000_000])
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises(ConfigError, match=r"config/resolved\.json: "):
        recorded.config_of(text, "/elsewhere", None)
