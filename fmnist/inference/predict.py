"""A model's predictions for image files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist import PROJECT
from fmnist.common.errors import ImageError
from fmnist.common.terminal import table
from fmnist.inference import preprocessing
from fmnist.registry.answering import AnsweringModel

PICTURE = PROJECT / "outputs" / "predict.png"
MOST_LISTED = 10  # classes of an image
MAX_DRAWN = 60  # images in one picture


@dataclass(frozen=True)
class Answer:
    """The prediction for one image."""

    name: str  # of the file; with the index in an .npy file of several
    image: NDArray[np.uint8]  # as the model saw it, (height, width)
    probabilities: dict[str, float]  # by class

    @property
    def best(self) -> str:
        return max(self.probabilities, key=lambda name: self.probabilities[name])


@dataclass(frozen=True)
class Answers:
    """The predictions of a model, and the error line of each file that could not be read."""

    model: AnsweringModel
    answers: Sequence[Answer]
    problems: Sequence[str]


def ask(answering: AnsweringModel, files: Sequence[str]) -> Answers:
    """Let a model classify the images in files; "-" is standard input."""
    model = answering.model
    height, width = model.metadata.signature.inputs.inputs[0].shape[1:]
    answers, problems = [], []
    for file in files:
        try:
            images = preprocessing.read(file, (height, width))
        except ImageError as error:
            problems.append(str(error))
            continue
        rows = model.predict(images).to_dict("records")
        for index, (image, row) in enumerate(zip(images, rows, strict=True)):
            name = file if len(images) == 1 else f"{file}[{index}]"
            answers.append(Answer(name, image, row))
    return Answers(answering, answers, problems)


def as_table(answers: Answers) -> str:
    """Return which model answers, and its probable classes, the most probable one first."""
    rows = []
    for answer in answers.answers:
        ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
        others = [f"{name} {p:.0%}" for name, p in ranked[1:MOST_LISTED] if p > 0.005]  # not 0 %
        best = ranked[0][1]
        rows.append(
            [answer.name, answer.best, f"{best:.{0 if best > 0.005 else 2}%}", ", ".join(others)]
        )
    return f"{answers.model}\n\n{table(['image', 'class', 'probability', 'else'], rows)}"


def as_json(answers: Answers) -> str:
    """Return which model answers, and all its probabilities."""
    model = {"model": answers.model.uri, "data_set": answers.model.data_set}
    listed = [
        {"image": answer.name, "class": answer.best, "probabilities": answer.probabilities}
        for answer in answers.answers
    ]
    return json.dumps(model | {"answers": listed}, indent=1)


def draw(answers: Answers) -> Path:
    """Draw the images as the model saw them beside the predictions, and return the file."""
    from fmnist.reports import pictures, run_plots  # a second that only those wait who look

    drawn = answers.answers[:MAX_DRAWN]
    draw = partial(
        run_plots.classified_images,
        [answer.image for answer in drawn],
        [answer.probabilities for answer in drawn],
        [f"{Path(answer.name).name}\n{answer.best}" for answer in drawn],
    )
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(pictures.png(draw))
    return PICTURE
