"""What runs logged beside their scores, read back; for a comparison, by variant."""

import io
import json
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import mlflow
import numpy as np
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from numpy.typing import NDArray

from fmnist.evidence.layer_health import QUANTITIES, TABLE
from fmnist.evidence.predictions import VALIDATION, Predictions

if TYPE_CHECKING:  # it brings scipy.stats, which no training needs
    from fmnist.evidence.comparison import Comparison


def artifact(run_id: str, name: str) -> bytes | None:
    """Return the content of a run's file `name`; None if the run logged no such file."""
    return _content(mlflow.get_run(run_id).info.artifact_uri, name)


def metric_history(run_id: str, metric: str) -> dict[int, float]:
    """Return the value of a run's metric at each step."""
    points = mlflow.MlflowClient().get_metric_history(run_id, metric)
    return {point.step: point.value for point in points}


def histories(comparison: "Comparison") -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return `val_loss` and `val_accuracy` (seeds, epochs); NaN where a run has stopped before."""
    return {
        variant.name: {
            metric: _padded(
                [
                    np.array([*metric_history(run, metric).values()])
                    for run in variant.run_ids.values()
                ]
            )
            for metric in ("val_loss", "val_accuracy")
        }
        for variant in comparison.variants
        if variant.run_ids
    }


def health(comparison: "Comparison") -> dict[str, NDArray[np.float64]]:
    """Return the layer health (seeds, epochs + 1, layers, quantities) of variants that have it.

    A variant whose runs have different numbers of layers has none.
    """
    by_variant = {}
    for name, files in _artifacts(comparison, TABLE).items():
        tables = [_health_of_run(content) for content in files.values()]
        if len({table.shape[1] for table in tables}) == 1:
            by_variant[name] = _padded(tables)
    return by_variant


def _health_of_run(content: bytes) -> NDArray[np.float64]:
    """Parse the layer health of a run to an array (epochs + 1, layers, quantities)."""
    table = json.loads(content)
    columns = [table["columns"].index(quantity) for quantity in QUANTITIES]
    values = [[row[column] for column in columns] for row in table["data"]]
    layers = len({row[1] for row in table["data"]})
    return np.array(values, float).reshape(-1, layers, len(QUANTITIES))


def predictions(comparison: "Comparison") -> dict[str, dict[int, Predictions]]:
    """Return the variants' validation predictions by seed.

    Variants are left out that logged none, or for other images than the baseline's.
    """
    by_variant = {
        name: {seed: Predictions.load(io.BytesIO(content)) for seed, content in files.items()}
        for name, files in _artifacts(comparison, VALIDATION).items()
    }
    baseline = by_variant.get(comparison.variants[0].name)
    if baseline is None:
        return {}
    reference = next(iter(baseline.values()))
    return {
        name: by_seed
        for name, by_seed in by_variant.items()
        if all(map(reference.is_of_same_images, by_seed.values()))
    }


def _artifacts(comparison: "Comparison", name: str) -> dict[str, dict[int, bytes]]:
    """Return the file `name` of the runs that logged it, by variant and seed."""
    files: dict[str, dict[int, bytes]] = {}
    for variant in comparison.variants:
        for seed, uri in variant.artifacts.items():
            content = _content(uri, name)
            if content is not None:
                files.setdefault(variant.name, {})[seed] = content
    return files


def _content(uri: str, name: str) -> bytes | None:
    folder = str(PurePosixPath(name).parent)
    listed = get_artifact_repository(uri).list_artifacts(None if folder == "." else folder)
    if name not in {file.path for file in listed}:
        return None
    with TemporaryDirectory() as copy:
        path = mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{name}", dst_path=copy)
        return Path(path).read_bytes()


def _padded(arrays: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Stack arrays (n, ...) of different n to (arrays, longest n, ...), NaN behind the shorter."""
    longest = max(map(len, arrays))
    stacked = np.full((len(arrays), longest, *arrays[0].shape[1:]), np.nan)
    for row, array in enumerate(arrays):
        stacked[row, : len(array)] = array
    return stacked
