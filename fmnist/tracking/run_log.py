"""Adds to what MLflow has of a run, by the id of the run, whether it is open or not."""

import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from fmnist.tracking import tag

DIGESTS = "digests.json"
"""Where a run keeps the SHA-256 of its weights and metrics, among its artifacts."""


def set_tags(run_id: str, tags: Mapping[str, object]) -> None:
    """Set tags in one request."""
    MlflowClient().log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])


def log_json(run_id: str, content: Mapping[str, Any], name: str) -> None:
    MlflowClient().log_dict(run_id, dict(content), name)


def log_pictures(run_id: str, pictures: Mapping[str, bytes]) -> None:
    """Log PNGs by the names of their artifacts."""
    for name, picture in pictures.items():
        log_file(run_id, name, partial(Path.write_bytes, data=picture))


def log_file(run_id: str, name: str, write: Callable[[Path], object]) -> None:
    """Log the artifact `name`, which `write` writes to a path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, PurePosixPath(name).name)
        write(path)
        MlflowClient().log_artifact(run_id, str(path), str(PurePosixPath(name).parent))


def log_digests(run_id: str, digests: Mapping[str, Any]) -> None:
    """Log the SHA-256 of weights and metrics; that of the weights also as tags."""
    log_json(run_id, digests, DIGESTS)
    weights = [key for key in ("last", "best") if key in digests]
    set_tags(run_id, {f"{tag.WEIGHTS_DIGEST}.{key}": digests[key] for key in weights})


def log_missing_metrics(run_id: str, metrics: Mapping[str, float]) -> None:
    """Log metrics of a whole run in one request, but none a second time."""
    client, now = MlflowClient(), int(time.time() * 1000)
    logged = client.get_run(run_id).data.metrics
    missing = {key: value for key, value in metrics.items() if key not in logged}
    client.log_batch(run_id, [Metric(key, value, now, 0) for key, value in missing.items()])
