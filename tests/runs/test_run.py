"""Real runs on real digits, and what MLflow has of them afterwards."""

import hashlib
import json
import os
import signal
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from PIL import Image

from conftest import QUICK, composed, runs_in, write_idx
from fmnist.common.errors import ConfigError, DataError, FmnistError, TrackingError, TrainingError
from fmnist.common.exits import Terminated
from fmnist.config.instantiate import instantiate
from fmnist.runs.run import run as run_experiment
from fmnist.tracking.model import digest as model_digest
from fmnist.training.devices import usable_processors
from fmnist.training.evaluation import score


@pytest.fixture(scope="module")
def finished(run, store):
    """One finished run, its entry in the store, and its data set."""
    result = run("training.epochs=4", "model=selu_dropout", "callbacks.early_stopping.patience=9")
    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    return result, client.get_run(result.run_id), client


@pytest.fixture(scope="module")
def digits():
    return instantiate(
        "data", {"_target_": "fmnist.data.digits", "validation_size": 300, "test_size": 297}
    )


def digest(model) -> str:
    return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()


def test_status_params_and_tags_say_what_was_run(finished, store, digits):
    _, tracked, _ = finished
    assert tracked.info.status == "FINISHED"
    assert tracked.info.run_name == "selu_dropout seed 42"
    expected = composed(store, *QUICK, "training.epochs=4", "callbacks.early_stopping.patience=9")
    threads = {"training.threads": str(usable_processors())}
    assert tracked.data.params == {k: str(v) for k, v in expected.params().items()} | threads
    tags = tracked.data.tags
    assert tags["data.fingerprint"] == digits.fingerprint
    accuracy = tracked.data.metrics["best_val_accuracy"]
    assert tags["mlflow.note.content"].startswith(f"val_accuracy {accuracy:.2%} after epoch ")
    assert tags["git.dirty"] in ("true", "false")
    assert tags["command"].startswith("python train.py")
    inputs = {i.tags[0].value: i.dataset for i in tracked.inputs.dataset_inputs}
    assert inputs.keys() == {"train", "val", "test"}
    assert {dataset.digest for dataset in inputs.values()} == {digits.fingerprint}


def test_each_epoch_is_tracked_once_and_counted_from_one(finished):
    result, tracked, client = finished
    names = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "epoch_seconds")
    for name in names:
        points = client.get_metric_history(tracked.info.run_id, name)
        assert [point.step for point in points] == [1, 2, 3, 4], name
        if name in result.history and name not in ("learning_rate", "epoch_seconds"):
            assert [point.value for point in points] == pytest.approx(result.history[name])
    assert tracked.data.metrics["learning_rate"] == 0.01
    summary = {f"{w}_{p}_{m}" for w in ("best", "last") for p in ("val", "test") for m in names[:2]}
    summary |= {"best_epoch", "fit_seconds", "parameters"}
    health = {"gradient_norm", "gradient_ratio", "dead_units"}
    assert set(tracked.data.metrics) == summary | set(names) | health
    assert tracked.data.metrics["parameters"] == result.model.count_params()
    for name in summary:
        assert len(client.get_metric_history(tracked.info.run_id, name)) == 1, name


def test_scores_belong_to_the_weights_that_they_name(finished, store, digits):
    result, tracked, _ = finished
    metrics, losses = tracked.data.metrics, result.history["val_loss"]
    assert metrics["best_epoch"] == np.argmin(losses) + 1
    assert metrics["best_val_loss"] == pytest.approx(min(losses), rel=1e-5)
    assert metrics["last_val_loss"] == pytest.approx(losses[-1], rel=1e-5)
    assert metrics["last_val_accuracy"] == pytest.approx(result.history["val_accuracy"][-1])
    assert result.objective == metrics["best_val_accuracy"]
    best = keras.models.load_model(store / "best.keras")
    by_hand = np.mean(np.argmax(best(digits.test.images), axis=1) == digits.test.labels)
    assert metrics["best_test_accuracy"] == pytest.approx(by_hand)


def test_every_artifact_is_there_and_can_be_opened(finished):
    tracked = finished[1]
    folder = Path(mlflow.artifacts.download_artifacts(run_id=tracked.info.run_id))
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    pictures = {name for name in found if name.startswith("images/layer_health+step+")}
    assert len(pictures) == 2 * 5  # before training and after four epochs; each large and small
    assert found - {"code/uncommitted.diff"} - pictures == {
        "layer_health.json",
        "predictions/validation.npz",
        "config/resolved.json",
        "digests.json",
        "environment/environment.json",
        "environment/requirements.txt",
        "model_summary.txt",
        "plots/learning_curves.png",
        "plots/confusion_matrix.png",
        "plots/confident_mistakes.png",
        "plots/layer_health.png",
    }
    for name in found:
        if name.endswith(".png"):
            assert Image.open(folder / name).size[0] >= 500
    environment = json.loads((folder / "environment/environment.json").read_text())
    assert environment["keras"] == keras.__version__
    assert environment["processors_usable"] >= 1
    installed = (folder / "environment/requirements.txt").read_text().splitlines()
    assert f"mlflow=={mlflow.__version__}" in installed
    assert "alpha_dropout" in (folder / "model_summary.txt").read_text()


def test_the_logged_model_is_the_best_and_takes_raw_pixels(finished, digits, store):
    _, tracked, client = finished
    model_id = tracked.outputs.model_outputs[0].model_id
    logged = client.get_logged_model(model_id)
    assert logged.status == "READY"
    linked = {metric.key: metric.value for metric in logged.metrics}
    assert linked["best_val_accuracy"] == tracked.data.metrics["best_val_accuracy"]
    served = mlflow.pyfunc.load_model(f"models:/{model_id}")
    tensor = served.metadata.signature.inputs.inputs[0]
    assert (tensor.type, tensor.shape) == (np.dtype("uint8"), (-1, 8, 8))
    best = keras.models.load_model(store / "best.keras")
    expected = best.predict(digits.test.images, verbose=0)
    answers = served.predict(digits.test.images)
    assert tuple(answers.columns) == digits.class_names
    np.testing.assert_allclose(answers.to_numpy(), expected, rtol=1e-5)
    folder = mlflow.artifacts.download_artifacts(artifact_uri=logged.model_uri)
    assert tracked.data.tags["model.digest"] == model_digest(Path(folder))
    plain = mlflow.keras.load_model(f"models:/{model_id}")
    np.testing.assert_array_equal(plain.predict(digits.test.images, verbose=0), expected)
    example = served.input_example
    assert example.dtype == np.uint8
    np.testing.assert_array_equal(example, digits.validation.images[: len(example)])
    requirements = mlflow.pyfunc.get_model_dependencies(f"models:/{model_id}")
    pins = {line.partition("==")[0] for line in Path(requirements).read_text().split()}
    assert pins == {"mlflow", "tensorflow", "keras", "numpy"}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_whatever_ran_before(run):
    quick = ("training.epochs=1", "callbacks=none")
    first = run(*quick, "seed=7")
    other = run(*quick, "seed=8")
    again = run(*quick, "seed=7")
    assert digest(first.model) == digest(again.model)
    assert first.history["loss"] == again.history["loss"]
    assert digest(first.model) != digest(other.model)


def test_without_a_checkpoint_the_last_weights_are_scored_and_logged(run, store):
    result = run("callbacks=none")
    assert result.objective == result.scores["last_val_accuracy"]
    assert not [name for name in result.scores if name.startswith("best")]
    assert runs_in(store)[0].outputs.model_outputs


def test_early_stopping_stops_and_an_added_callback_is_called(run, store):
    result = run(
        "training.epochs=9",
        "callbacks.early_stopping.patience=1",
        "callbacks.early_stopping.min_delta=10",
        "callbacks.tensorboard=null",
        "+callbacks.csv._target_=keras.callbacks.CSVLogger",
        f"+callbacks.csv.filename={store}/log.csv",
    )
    assert len(result.history["loss"]) == 2
    assert len((store / "log.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_batch_normalisation_and_other_optimizers_train(run):
    for overrides in (["model=batch_norm"], ["model=batch_norm_before", "optimizer=adam"]):
        result = run("training.epochs=3", *overrides)
        assert result.history["loss"][-1] < result.history["loss"][0]


def test_any_data_in_mnists_layout_trains(tmp_path, small_arrays):
    folder = write_idx(tmp_path / "data", small_arrays)
    overrides = ["data=idx", f"data.dir={folder}", "data.validation_size=10", "model.depth=2"]
    result = run_experiment(
        composed(tmp_path, *overrides, "training.epochs=1", "training.batch_size=8")
    )
    assert result.model.output_shape == (None, 3)
    logged = mlflow.pyfunc.load_model(f"runs:/{result.run_id}/model")
    assert logged.predict(small_arrays["t10k-images-idx3-ubyte"]).shape == (12, 3)


@pytest.mark.slow
def test_scoring_does_not_depend_on_the_size_of_its_batches(run, digits):
    result = run("training.epochs=1", "callbacks=none")
    correct = np.argmax(result.model(digits.test.images), axis=1) == digits.test.labels
    assert score(result.model, digits, "x")["x_test_accuracy"] == pytest.approx(correct.mean())


class Stop(keras.callbacks.Callback):
    """Raise, delete the run, or send the process a signal, at the end of the second epoch."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            if self.how == "error":
                raise RuntimeError("the disk is full\nof numbers")
            if self.how == "deletion":
                mlflow.delete_run(mlflow.active_run().info.run_id)
                return
            os.kill(os.getpid(), getattr(signal, self.how))


@pytest.mark.parametrize(
    ("how", "raised", "status"),
    [
        ("error", RuntimeError, "FAILED"),
        ("SIGINT", KeyboardInterrupt, "KILLED"),
        ("SIGTERM", Terminated, "KILLED"),
    ],
)
def test_a_run_that_ends_early_says_so_and_keeps_what_it_had(run, store, how, raised, status):
    with pytest.raises(raised):
        run(f"+callbacks.stop._target_={__name__}.Stop", f"+callbacks.stop.how={how}")
    tracked = runs_in(store)[0]
    assert tracked.info.status == status
    assert "val_loss" in tracked.data.metrics
    assert "data.fingerprint" in tracked.data.tags
    if status == "FAILED":
        assert tracked.data.tags["error"] == "RuntimeError: the disk is full of numbers"
        text = mlflow.artifacts.load_text(f"{tracked.info.artifact_uri}/error.txt")
        assert "Traceback" in text
    assert mlflow.active_run() is None
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_run_that_is_deleted_while_it_trains_ends_with_the_words_of_the_store(run, caplog):
    with pytest.raises(TrackingError, match="must be in the 'active' state"):
        run(f"+callbacks.stop._target_={__name__}.Stop", "+callbacks.stop.how=deletion")
    assert "does not answer" not in caplog.text
    assert mlflow.active_run() is None


def test_a_diverged_run_is_failed_and_named(run, store):
    with pytest.raises(TrainingError, match="diverged: loss is nan after epoch 1"):
        run("model=relu", "optimizer.learning_rate=1e3")
    tracked = runs_in(store)[0]
    assert tracked.info.status == "FAILED"
    assert tracked.data.tags["error"].startswith("TrainingError: training diverged")


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["training.batch_size=1201"], ConfigError, "training.batch_size=1201: must be at most"),
        (["data.validation_size=1500"], ConfigError, "data.validation_size=1500: must be below"),
        (["data=fashion_mnist", "data.dir=/nowhere"], DataError, "/nowhere: no such folder"),
        (["data=idx", "data.dir=tests"], DataError, "tests: train-images-idx3-ubyte"),
        (["+callbacks.x._target_=keras.callbacks.Nothing"], ConfigError, "callbacks.x._target_="),
        (["callbacks.checkpoint.monitor=val_acc"], ConfigError, "monitor=val_acc: choose one of"),
        (
            ["+callbacks.x._target_=keras.layers.Dense", "+callbacks.x.units=3"],
            ConfigError,
            "is not a keras.callbacks.Callback",
        ),
        (["+callbacks.x=3"], ConfigError, "callbacks.x: "),
        (["+optimizer.speed=3"], ConfigError, "optimizer.speed=3: keras.optimizers.SGD takes no"),
        (["callbacks.checkpoint.filepath=best.h6"], ConfigError, "callbacks.checkpoint: "),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_run(tmp_path, overrides, error, message):
    with pytest.raises(FmnistError) as caught:
        run_experiment(composed(tmp_path, *QUICK, *overrides))
    assert isinstance(caught.value, error)
    assert message in str(caught.value)
    assert runs_in(tmp_path) == []
