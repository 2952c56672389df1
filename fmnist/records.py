"""What the finished runs of a comparison logged beside their scores, by variant."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import mlflow
import numpy as np
from numpy.typing import NDArray

from fmnist.comparison import Comparison
from fmnist.health_maps import QUANTITIES, TABLE
from fmnist.predictions import VALIDATION, Predictions


def histories(comparison: Comparison) -> dict[str, dict[str, NDArray[np.float64]]]:
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


def health(comparison: Comparison) -> dict[str, NDArray[np.float64]]:
    """Return the layer health (seeds, epochs + 1, layers, quantities) of variants that have it."""
    found = {}
    for name, tables in _artifacts(comparison, TABLE).items():
        content = [mlflow.artifacts.load_dict(str(path)) for path in tables.values()]
        arrays = []
        for table in content:
            columns = [table["columns"].index(quantity) for quantity in QUANTITIES]
            rows = np.array(table["data"], object)
            layers = len(set(rows[:, table["columns"].index("layer")]))
            values = rows[:, columns].astype(float)
            arrays.append(values.reshape(-1, layers, len(QUANTITIES)))
        found[name] = padded(arrays)
    return found


def predictions(comparison: Comparison) -> dict[str, dict[int, Predictions]]:
    """Return by seed what each variant's runs said of the validation images, where logged."""
    return {
        name: {seed: Predictions.load(path) for seed, path in files.items()}
        for name, files in _artifacts(comparison, VALIDATION).items()
    }


def _artifacts(comparison: Comparison, name: str) -> Mapping[str, Mapping[int, Path]]:
    """Return the file `name` of the runs that logged it, by variant and seed."""
    client = mlflow.MlflowClient()
    folder = str(PurePosixPath(name).parent)
    files: dict[str, dict[int, Path]] = {}
    for variant in comparison.variants:
        for seed, run in variant.run_ids.items():
            listed = client.list_artifacts(run, None if folder == "." else folder)
            if name in {file.path for file in listed}:
                path = Path(client.download_artifacts(run, name))
                files.setdefault(variant.name, {})[seed] = path
    return files


def padded(arrays: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Stack arrays of different lengths, with NaN behind the shorter ones."""
    longest = max(map(len, arrays))
    stacked = np.full((len(arrays), longest, *arrays[0].shape[1:]), np.nan)
    for place, array in enumerate(arrays):
        stacked[place, : len(array)] = array
    return stacked
