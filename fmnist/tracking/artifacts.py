"""What the finished runs of a comparison logged beside their scores, by variant."""

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

if TYPE_CHECKING:
    from fmnist.evidence.comparison import (
        Comparison,  # it brings scipy.stats, which no training needs
    )


def histories(comparison: "Comparison") -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return `val_loss` and `val_accuracy` (seeds, epochs); NaN where a run has stopped before."""
    client = mlflow.MlflowClient()
    return {
        variant.name: {
            metric: padded(
                [
                    np.array([point.value for point in client.get_metric_history(run, metric)])
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
    found = {}
    for name, contents in _artifacts(comparison, TABLE).items():
        tables = [json.loads(content) for content in contents.values()]
        columns = [tables[0]["columns"].index(quantity) for quantity in QUANTITIES]
        layers = [len({row[1] for row in table["data"]}) for table in tables]
        if len(set(layers)) == 1:
            arrays = [[[row[c] for c in columns] for row in table["data"]] for table in tables]
            shape = (-1, layers[0], len(QUANTITIES))
            found[name] = padded([np.array(array, float).reshape(shape) for array in arrays])
    return found


def predictions(comparison: "Comparison") -> dict[str, dict[int, Predictions]]:
    """Return by seed what the variants' logged models said of the same validation images.

    Variants are left out that logged nothing, or for other images than the baseline's.
    """
    found = {
        name: {seed: Predictions.load(io.BytesIO(content)) for seed, content in files.items()}
        for name, files in _artifacts(comparison, VALIDATION).items()
    }
    reference = found.get(comparison.variants[0].name)
    if reference is None:
        return {}
    first = next(iter(reference.values()))
    return {
        name: by_seed
        for name, by_seed in found.items()
        if all(first.is_of_same_images(one) for one in by_seed.values())
    }


def _artifacts(comparison: "Comparison", name: str) -> dict[str, dict[int, bytes]]:
    """Return the file `name` of the runs that logged it, by variant and seed."""
    files: dict[str, dict[int, bytes]] = {}
    for variant in comparison.variants:
        for seed, place in variant.artifacts.items():
            content = _content(place, name)
            if content is not None:
                files.setdefault(variant.name, {})[seed] = content
    return files


def artifact(run_id: str, name: str) -> bytes | None:
    """Return the content of a run's file `name`; None if the run logged no such file."""
    return _content(mlflow.get_run(run_id).info.artifact_uri, name)


def _content(uri: str, name: str) -> bytes | None:
    """Return the content of the file `name` among the artifacts at `uri`, if it is there."""
    folder = str(PurePosixPath(name).parent)
    listed = get_artifact_repository(uri).list_artifacts(None if folder == "." else folder)
    if name not in {file.path for file in listed}:
        return None
    with TemporaryDirectory() as place:
        path = mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{name}", dst_path=place)
        return Path(path).read_bytes()


def padded(arrays: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Stack arrays (n, ...) of different n to (arrays, longest n, ...), NaN behind the shorter."""
    longest = max(map(len, arrays))
    stacked = np.full((len(arrays), longest, *arrays[0].shape[1:]), np.nan)
    for place, array in enumerate(arrays):
        stacked[place, : len(array)] = array
    return stacked
