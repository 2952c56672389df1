"""The checks of a model's files, in a fresh process: it knows no class that `predict` does not.

A process that trained, or that imported `fmnist.training.models`, loads a layer of the user's own
that no other process can.
"""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mlflow.models import Model
from numpy.typing import NDArray

from fmnist.common.errors import DataError, FmnistError, one_line
from fmnist.common.startup import environment_of_child, let_children_find_project
from fmnist.config.instantiate import instantiate
from fmnist.data.datasets import Dataset
from fmnist.evidence.predictions import Predictions
from fmnist.registry.decision import Check
from fmnist.registry.safe_loading import has_our_code, load_pyfunc

PREDICTIONS, TASK, RESULT = "predictions.npz", "task.json", "result.json"


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """A model's files, and what is known of its training."""

    folder: str
    data: dict[str, Any]  # what `instantiate` builds its data set from
    fingerprint: str  # of that data set

    def checks(self, predictions: Predictions) -> Iterator[Check]:
        """Yield one check after the other; each relies on those before it.

        Args:
            predictions: what the model answered for the validation images after training.
        """
        dataset: Dataset = instantiate("data", self.data)
        yield _check_data(dataset, self.fingerprint)
        yield _check_signature(Path(self.folder), dataset)
        ours = has_our_code(Path(self.folder))
        try:
            model = load_pyfunc(Path(self.folder))
        except FmnistError as error:
            yield Check("loading", False, str(error))
            return
        yield _check_predictions(model.get_raw_model(), dataset, predictions)
        answers = model.predict(dataset.validation.images)
        named = tuple(answers.columns) == dataset.class_names
        same = named and _same_answers(answers.to_numpy(), predictions.probabilities).all()
        finding = "the same, by name of class" if same else "other answers"
        code = "ours, byte for byte" if ours else "not ours, and was not executed"
        yield Check("answers", bool(same), f"{finding}; the code in the model is {code}")


def check_in_fresh_process(files: ModelFiles, predictions: Predictions) -> list[Check]:
    """Return the checks up to the first that fails; they run in a new process.

    Raises:
        DataError: if the data set cannot be loaded.
    """
    let_children_find_project()
    with TemporaryDirectory() as folder:
        predictions.save(Path(folder, PREDICTIONS))
        Path(folder, TASK).write_text(json.dumps(dataclasses.asdict(files)))
        command = [sys.executable, "-m", __name__, folder]
        done = subprocess.run(
            command, env=environment_of_child(), capture_output=True, text=True, errors="replace"
        )
        if done.returncode:
            last_line = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            finding = f"the process that loads it ended with status {done.returncode}: {last_line}"
            return [Check("loading", False, finding)]
        result = json.loads(Path(folder, RESULT).read_text())
    if result["error"]:
        raise DataError(result["error"])
    return [Check(**check) for check in result["checks"]]


def until_failure(checks: Iterator[Check]) -> list[Check]:
    """Return the checks up to the first that fails."""
    made: list[Check] = []
    for check in checks:
        made.append(check)
        if not check.passed:
            break
    return made


def main(folder: Path) -> None:
    """Check what `check_in_fresh_process` laid into a folder, and leave the result there."""
    files = ModelFiles(**json.loads((folder / TASK).read_text()))
    made, problem = list[Check](), None
    try:
        made = until_failure(files.checks(Predictions.load(folder / PREDICTIONS)))
    except FmnistError as error:
        problem = one_line(error)
    result = {"checks": [dataclasses.asdict(check) for check in made], "error": problem}
    (folder / RESULT).write_text(json.dumps(result))


def _check_data(dataset: Dataset, expected: str) -> Check:
    finding = f"{dataset.name}, fingerprint {expected}"
    if dataset.fingerprint != expected:
        finding = f"it was trained on other data: {finding}, but here it is {dataset.fingerprint}"
    return Check("data", dataset.fingerprint == expected, finding)


def _check_signature(folder: Path, dataset: Dataset) -> Check:
    signature = Model.load(str(folder)).signature
    inputs = [(str(t.type), tuple(t.shape)) for t in signature.inputs.inputs] if signature else []
    passed = inputs == [("uint8", (-1, *dataset.image_shape))]
    finding = f"takes {inputs[0][0]} {inputs[0][1]}" if inputs else "has none"
    return Check("signature", passed, finding)


def _check_predictions(model: Any, dataset: Dataset, logged: Predictions) -> Check:
    from fmnist.training.batches import scoring_batches  # TensorFlow takes seconds to import

    probabilities = model.predict(scoring_batches(dataset.validation), verbose=0)
    images = len(probabilities)
    if not np.array_equal(dataset.validation.labels, logged.labels):
        return Check("predictions", False, "those it logged are of other images")
    if np.array_equal(probabilities, logged.probabilities):
        return Check("predictions", True, f"for {images} validation images the same, bit for bit")
    differing = images - int(_same_answers(probabilities, logged.probabilities).sum())
    if differing:
        finding = f"for {differing} of {images} validation images other than when it was trained"
        return Check("predictions", False, finding)
    largest = np.abs(probabilities - logged.probabilities).max()
    finding = f"for {images} validation images the same but for rounding, {largest:.0e} at most"
    return Check("predictions", True, finding)


def _same_answers(first: NDArray[np.float32], second: NDArray[np.float32]) -> Any:
    """Tell for which images (n,) two answers (n, classes) differ by rounding at most.

    Sums are rounded otherwise with another number of threads, or on another processor.
    """
    return np.all(np.isclose(first, second, rtol=1e-3, atol=1e-5), axis=1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
