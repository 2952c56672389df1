"""What the champion says of images."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist import PROJECT
from fmnist.common.errors import ImageError
from fmnist.common.terminal import table
from fmnist.inference import preprocessing
from fmnist.registry import versions
from fmnist.registry.decision_log import MODEL

PICTURE = PROJECT / "outputs" / "predict.png"
MOST_DRAWN = 60  # images in one picture
SHOWN = 0.005  # what is not 0 in whole percents


@dataclass(frozen=True)
class Answer:
    """What a model says of one image.

    Attributes:
        name: of the file; of an .npy file of several with the place in it.
        image: as the model saw it, (height, width) uint8.
        probabilities: of the classes by name.
    """

    name: str
    image: NDArray[np.uint8]
    probabilities: dict[str, float]

    @property
    def best(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])


@dataclass(frozen=True)
class Answers:
    """What a version of the model says of images, and what is wrong with files it was not asked."""

    version: int
    answers: Sequence[Answer]
    problems: Sequence[str]


def ask(names: Sequence[str]) -> Answers:
    """Ask the champion about images; a file that is none costs only itself.

    Args:
        names: of files and folders; "-": standard input.

    Raises:
        PromotionError: if there is no champion, or if its model is missing or was altered.
        ImageError: if a folder has no image.
    """
    files = preprocessing.files_of(names)
    version, model = versions.load_champion()
    height, width = model.metadata.signature.inputs.inputs[0].shape[1:]
    answers, problems = [], []
    for name in files:
        try:
            pixels = preprocessing.read(name, (height, width))
        except ImageError as error:
            problems.append(str(error))
            continue
        said = model.predict(pixels)
        for place, (image, (_, row)) in enumerate(zip(pixels, said.iterrows(), strict=True)):
            own = name if len(pixels) == 1 else f"{name}[{place}]"
            answers.append(Answer(own, image, {k: float(v) for k, v in row.items()}))
    return Answers(version, answers, problems)


def as_table(said: Answers) -> str:
    """Return a table with the probable classes of each image, the most probable one first."""
    rows = []
    for answer in said.answers:
        ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
        (best, probability), *others = [item for item in ranked if item[1] > SHOWN]
        listed = ", ".join(f"{name} {value:.0%}" for name, value in others)
        rows.append([answer.name, best, f"{probability:.0%}", listed])
    return table(["image", "class", "probability", "else"], rows)


def as_json(said: Answers) -> str:
    """Return the answers as JSON, all probabilities with them."""
    answers = [
        {"image": answer.name, "class": answer.best, "probabilities": answer.probabilities}
        for answer in said.answers
    ]
    model = f"models:/{MODEL}/{said.version}"
    return json.dumps({"model": model, "answers": answers}, indent=1)


def draw(said: Answers) -> Path:
    """Draw what the model saw beside its answers, and return the file."""
    from fmnist.reports import run_plots  # a second that nobody waits for who does not look

    shown = said.answers[:MOST_DRAWN]
    figure = run_plots.classified_images(
        [answer.image for answer in shown],
        [answer.probabilities for answer in shown],
        [f"{Path(answer.name).name}\n{answer.best}" for answer in shown],
    )
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    return PICTURE
