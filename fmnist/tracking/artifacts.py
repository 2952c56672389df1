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

CURVES = ("val_loss", "val_accuracy")


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
            metric: padded(
                [
                    np.array(list(metric_history(run_id, metric).values()))
                    for run_id in variant.run_ids.values()
                ]
            )
            for metric in CURVES
        }
        for variant in comparison.variants
        if variant.run_ids
    }


def health(comparison: "Comparison") -> dict[str, NDArray[np.float64]]:
    """Return the layer health (seeds, epochs + 1, layers, quantities) of variants that have it.

    A variant whose runs have different numbers of layers has none.
    """
    by_variant = {}
    for name, contents in _artifacts(comparison, TABLE).items():
        tables = [json.loads(content) for content in contents.values()]
        columns = [tables[0]["columns"].index(quantity) for quantity in QUANTITIES]
        layers = [len({row[1] for row in table["data"]}) for table in tables]
        if len(set(layers)) == 1:
            arrays = [[[row[c] for c in columns] for row in table["data"]] for table in tables]
            shape = (-1, layers[0], len(QUANTITIES))
            by_variant[name] = padded([np.array(array, float).reshape(shape) for array in arrays])
    return by_variant


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
    """Return the content of the file `name` among the artifacts at `uri`, if it is there."""
    parent = str(PurePosixPath(name).parent)
    listed = get_artifact_repository(uri).list_artifacts(None if parent == "." else parent)
    if name not in {file.path for file in listed}:
        return None
    with TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{name}", dst_path=folder)
        return Path(path).read_bytes()


def padded(arrays: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Stack arrays (n, ...) of different n to (arrays, longest n, ...), NaN behind the shorter."""
    longest = max(map(len, arrays))
    stacked = np.full((len(arrays), longest, *arrays[0].shape[1:]), np.nan)
    for row, array in enumerate(arrays):
        stacked[row, : len(array)] = array
    return stacked
