"""The state of training after an epoch, kept so that a killed run goes on to the same weights."""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from fmnist.common.errors import TrainingError
from fmnist.common.files import replacing
from fmnist.training.compiled_epoch import build_state, state

FILE = "snapshot.npz"
"""In the folder of a run, until the run is finished."""

NOT_STATE = ("params", "_params", "min_delta", "append", "append_header")
"""Attributes of callbacks that are not restored: Keras turns the sign of `min_delta` once, and
CSVLogger finds out at its begin whether it goes on."""
ARRAY = "__array__"  # marks in a state, with its number, where an array stood


@dataclass(frozen=True)
class Snapshot:
    """What decides how training goes on.

    Attributes:
        run_id: of the MLflow run.
        epochs: how many are done.
        stopped: a callback has ended training.
        variables: of model, optimizer and metrics, as `fmnist.engine.state` orders them.
        callbacks: the state of each: its plain attributes.
    """

    run_id: str
    epochs: int
    stopped: bool
    variables: Sequence[NDArray[Any]]
    callbacks: Sequence[Mapping[str, Any]]

    def save(self, path: Path) -> None:
        """Write it; until it is whole on the disk, the former one stays.

        Raises:
            OSError: if it cannot be written.
        """
        arrays: list[NDArray[Any]] = []
        about = {
            "run_id": self.run_id,
            "epochs": self.epochs,
            "stopped": self.stopped,
            "callbacks": [_without_arrays(callback, arrays) for callback in self.callbacks],
        }
        with replacing(path) as beside:
            named: dict[str, Any] = {
                f"variable{i}": variable for i, variable in enumerate(self.variables)
            }
            named |= {f"{ARRAY}{i}": array for i, array in enumerate(arrays)}
            with beside.open("wb") as file:
                np.savez(file, about=np.array(json.dumps(about)), **named)

    @classmethod
    def load(cls, folder: Path, run_id: str) -> "Snapshot | None":
        """Read what the run `run_id` saved in its folder; None if no epoch of it was done.

        Raises:
            TrainingError: if the file is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as content:
                about = json.loads(str(content["about"]))
                count = sum(name.startswith("variable") for name in content.files)
                variables = [content[f"variable{i}"] for i in range(count)]
                callbacks = [_with_arrays(one, content) for one in about["callbacks"]]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise TrainingError(f"{path}: damaged ({error}); without it nothing resumes") from error
        if about["run_id"] != run_id:  # a later run in the same folder
            return None
        return cls(run_id, about["epochs"], about["stopped"], variables, callbacks)


def remove(folder: Path) -> None:
    """Remove the snapshot of a run that is finished."""
    (folder / FILE).unlink(missing_ok=True)


class Snapshots(keras.callbacks.Callback):
    """Save a snapshot after each epoch; go on from an earlier one when training begins.

    Comes behind all callbacks that it watches.

    Attributes:
        digests: of each epoch's "weights" and "metrics".
    """

    def __init__(
        self,
        folder: str,
        run_id: str,
        watched: Sequence[keras.callbacks.Callback],
        earlier: Snapshot | None,
    ) -> None:
        super().__init__()
        self.path, self.run_id = Path(folder, FILE), run_id
        self.watched, self.earlier = [*watched, self], earlier
        self.digests: list[dict[str, str]] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Put the earlier state in place, now that no callback resets its own any more."""
        if self.earlier is None:
            return
        build_state(self.model)
        for variable, value in zip(state(self.model), self.earlier.variables, strict=True):
            variable.assign(value)
        for callback, earlier in zip(self.watched, self.earlier.callbacks, strict=True):
            vars(callback).update(earlier)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save."""
        assert logs is not None
        metrics = {key: value for key, value in logs.items() if not key.endswith("_seconds")}
        weights = digest_of_weights(self.model)
        self.digests.append(
            {"weights": weights, "metrics": _sha256(json.dumps(metrics, default=float).encode())}
        )
        Snapshot(
            self.run_id,
            epoch + 1,
            bool(self.model.stop_training),
            [variable.numpy() for variable in state(self.model)],
            [plain_attributes(callback) for callback in self.watched],
        ).save(self.path)


def digest_of_weights(model: keras.Model) -> str:
    """Return the SHA-256 (hexadecimal) of all weights, in their order, shapes included."""
    return _sha256(*(f"{w.shape}{w.dtype}".encode() + w.tobytes() for w in model.get_weights()))


def plain_attributes(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Return the attributes that are numbers, words, arrays, and lists and mappings of these."""
    own = {key: value for key, value in vars(callback).items() if key not in NOT_STATE}
    return {key: value for key, value in own.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, np.ndarray | np.generic):
        return not value.dtype.hasobject
    return value is None or isinstance(value, bool | int | float | str)


def _without_arrays(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """Return `value` with {ARRAY: n} in the place of each array, which `arrays` gets."""
    if isinstance(value, dict):
        return {key: _without_arrays(child, arrays) for key, child in value.items()}
    if isinstance(value, list):
        return [_without_arrays(child, arrays) for child in value]
    if isinstance(value, np.ndarray | np.generic):
        arrays.append(np.asarray(value))
        return {ARRAY: len(arrays) - 1}
    return value


def _with_arrays(value: Any, content: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {ARRAY}:
            return content[f"{ARRAY}{value[ARRAY]}"][()]
        return {key: _with_arrays(child, content) for key, child in value.items()}
    if isinstance(value, list):
        return [_with_arrays(child, content) for child in value]
    return value


def _sha256(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()
