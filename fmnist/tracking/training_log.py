"""What MLflow records while a run trains: metrics of each epoch, layer health."""

import json
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from mlflow import MlflowClient
from mlflow.artifacts import list_artifacts
from mlflow.entities import Metric
from mlflow.tracking.multimedia import compress_image_size
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS
from PIL import Image

from fmnist.evidence.layer_health import QUANTITIES, TABLE
from fmnist.reports.layer_health_maps import heat_maps
from fmnist.reports.pictures import drawn
from fmnist.tracking import run_log, tag
from fmnist.tracking.artifacts import metric_history
from fmnist.tracking.delivery_queue import DeliveryQueue

if TYPE_CHECKING:
    from fmnist.training.progress import TrainingProgress

FIRST_METRIC = "val_accuracy"
"""MLflow's comparison of runs draws the metric that was logged first."""

PICTURES = "layer_health"  # the image with a slider over the epochs in MLflow's UI


class TrainingLog:
    """Logs each epoch to MLflow while the next one trains; epochs are counted from 1.

    It comes after the snapshot: an epoch that was logged is never trained again.
    """

    def __init__(self, run_id: str, queue: DeliveryQueue) -> None:
        self.run_id, self.queue, self.client = run_id, queue, MlflowClient()

    def on_train_begin(self, progress: "TrainingProgress") -> None:
        """Also log what a stopped process did not log."""
        self.progress, self.moments = progress, 0
        self.epochs = len(progress.epochs)
        tags = {tag.ENGINE: progress.engine.name}
        if progress.measures_health:
            tags[MLFLOW_LOGGED_ARTIFACTS] = json.dumps([{"path": TABLE, "type": "table"}])
        self.queue.enqueue(partial(run_log.set_tags, self.run_id, tags))
        if self.epochs:
            self.queue.enqueue(partial(self._log_missing_epochs, self.epochs))
        self.update()

    def update(self) -> None:
        """Log what is new, at the begin and at the end of an epoch."""
        while self.moments < len(self.progress.health):
            self.moments += 1
            self.queue.enqueue(partial(self._log_health, self.moments))
        while self.epochs < len(self.progress.epochs):
            self.queue.enqueue(partial(self._log_epoch, self.epochs))
            self.epochs += 1

    def on_train_end(self) -> None:
        """Log the last picture of layer health once more, where it is shown in full."""
        picture = self.progress.measures_health and self._picture(len(self.progress.health))
        if picture:
            log_image = partial(self.client.log_image, self.run_id, picture)
            self.queue.enqueue(partial(log_image, "plots/layer_health.png"))

    def _log_missing_epochs(self, epochs: int) -> None:
        logged = metric_history(self.run_id, FIRST_METRIC)
        for epoch in sorted(set(range(epochs)) - {step - 1 for step in logged}):
            self._log_epoch(epoch)

    def _log_epoch(self, epoch: int) -> None:
        values, time = self.progress.epochs[epoch], self.progress.ended[epoch]
        metrics = [
            Metric(name, as_written(values[name]), time, epoch + 1)
            for name in dict.fromkeys([FIRST_METRIC, *values])
        ]
        self.client.log_batch(self.run_id, metrics)

    def _log_health(self, moments: int) -> None:
        """Log the first `moments` measurements, without what was logged of them before."""
        # Given the id of the run, MLflow would look through the models of all runs, too.
        images = f"{self.client.get_run(self.run_id).info.artifact_uri}/images"
        step = moments - 1
        logged = [
            file.path
            for file in list_artifacts(artifact_uri=images)
            if f"/{PICTURES}+step+{step}+" in file.path
        ]
        if not logged:
            self._log_table(moments)
        picture = self._picture(moments) if len(logged) < 2 else None
        if picture and not logged:
            # MLflow's way to log an image in the background loses some when the process ends.
            self.client.log_image(self.run_id, picture, key=PICTURES, step=step, synchronous=True)
        elif picture:  # stopped between the picture and its preview
            self._log_preview(logged[0], picture)

    def _log_table(self, moments: int) -> None:
        rows = [
            [epoch, name, *map(float, values)]
            for epoch, layers in enumerate(self.progress.health[:moments])
            for name, values in zip(self.progress.layers, layers, strict=True)
        ]
        # As `mlflow.log_table` writes it, but that rounds to ten decimals, where gradients vanish.
        table = {"columns": ["epoch", "layer", *QUANTITIES], "data": rows}
        self.client.log_dict(self.run_id, table, TABLE)

    def _log_preview(self, path: str, picture: Image.Image) -> None:
        """Log the small copy that MLflow's `log_image` puts beside the picture at `path`."""
        with TemporaryDirectory() as folder:
            preview = Path(folder, f"{PurePosixPath(path).stem}+compressed.webp")
            compress_image_size(picture).save(preview)
            parent = str(PurePosixPath(path).parent)
            self.client.log_artifact(self.run_id, str(preview), parent)

    def _picture(self, moments: int) -> Image.Image | None:
        history = np.array(self.progress.health[:moments])
        draw = partial(heat_maps, history, self.progress.planned)
        return drawn(f"of layer health after epoch {moments - 1}", draw)


def as_written(value: float) -> float:
    """Return a float32 as it is written in decimals, anything else as it is."""
    with np.errstate(over="ignore"):
        # As float: NumPy compares a float32 with a Python number in float32.
        single = np.float32(value)
        return float(str(single)) if float(single) == value else value
