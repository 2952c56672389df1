"""Snapshots: the state of training after an epoch, from which a killed run resumes exactly."""

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

FILE = "snapshot.npz"  # in the folder of a run until it is finished
# Attributes of callbacks that are not restored: Keras turns the sign of `min_delta` once,
# CSVLogger decides at the start of training whether it appends, and `resume=` has no pruner.
NOT_STATE = ("params", "_params", "min_delta", "append", "append_header", "pruner")
ARRAY = "__array__"  # JSON has {ARRAY: number} in place of an array


@dataclass(frozen=True)
class Snapshot:
    """All that decides how training continues."""

    run_id: str
    epochs: int  # that are done
    stopped: bool  # by a callback
    variables: Sequence[NDArray[Any]]  # in the order of `compiled_epoch.state`
    callbacks: Sequence[Mapping[str, Any]]  # the plain attributes of each

    def save(self, path: Path) -> None:
        """Write it atomically."""
        arrays: dict[str, Any] = {f"variable{i}": v for i, v in enumerate(self.variables)}

        def by_number(array: NDArray[Any]) -> dict[str, int]:
            number = len(arrays)
            arrays[f"{ARRAY}{number}"] = np.asarray(array)
            return {ARRAY: number}

        about = {
            "run_id": self.run_id,
            "epochs": self.epochs,
            "stopped": self.stopped,
            "callbacks": self.callbacks,
        }
        text = json.dumps(about, default=by_number)
        with replacing(path) as beside, beside.open("wb") as file:
            np.savez(file, about=np.array(text), **arrays)

    @classmethod
    def load(cls, folder: Path, run_id: str) -> "Snapshot | None":
        """Read what the run `run_id` saved in its folder; None if it finished no epoch.

        Raises:
            TrainingError: if the file is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as content:
                about = json.loads(
                    str(content["about"]),
                    object_hook=lambda value: (
                        content[f"{ARRAY}{value[ARRAY]}"][()] if value.keys() == {ARRAY} else value
                    ),
                )
                count = sum(name.startswith("variable") for name in content.files)
                variables = [content[f"variable{i}"] for i in range(count)]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise TrainingError(f"{path}: damaged ({error}); the run cannot be resumed") from error
        if about["run_id"] != run_id:  # a later run in the same folder
            return None
        return cls(run_id, about["epochs"], about["stopped"], variables, about["callbacks"])


def remove(folder: Path) -> None:
    """Remove the snapshot of a run that is finished."""
    (folder / FILE).unlink(missing_ok=True)


class Snapshots(keras.callbacks.Callback):
    """Save a snapshot after each epoch; continue from an earlier one when training begins.

    Must come after all callbacks that it watches.
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
        self.digests: list[dict[str, str]] = []  # of each epoch's "weights" and "metrics"

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restore the earlier state; by now the watched callbacks have reset theirs."""
        if self.earlier is None:
            return
        build_state(self.model)
        for variable, value in zip(state(self.model), self.earlier.variables, strict=True):
            variable.assign(value)
        for callback, earlier in zip(self.watched, self.earlier.callbacks, strict=True):
            vars(callback).update(earlier)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        metrics = {key: value for key, value in logs.items() if not key.endswith("_seconds")}
        text = json.dumps(metrics, default=float)
        self.digests.append(
            {
                "weights": digest_of_weights(self.model),
                "metrics": hashlib.sha256(text.encode()).hexdigest(),
            }
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
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(f"{weight.shape}{weight.dtype}".encode() + weight.tobytes())
    return digest.hexdigest()


def plain_attributes(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Return the attributes that are numbers, strings, arrays, and lists and dicts of these."""
    return {
        key: value
        for key, value in vars(callback).items()
        if key not in NOT_STATE and _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, np.ndarray | np.generic):
        return not value.dtype.hasobject
    return value is None or isinstance(value, bool | int | float | str)
