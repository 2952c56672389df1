"""The classes of a data set: their labels and names, and whether each part has images of them."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist.common.errors import ConfigError, DataError
from fmnist.config.limits import check_name

ALLOW = "data.allow_missing_classes=true"
MOSTLY = 0.9  # share of one class in the training part that is worth a warning
LISTED = 12  # labels or classes in a line

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classes:
    """What the configuration says of the classes."""

    given: Sequence[str] | None  # their names; None: the numbers of the labels
    allow_missing: bool  # train where else the scores would mean nothing

    def named(self, labels: Mapping[str, NDArray[np.uint8]], source: str) -> tuple[str, ...]:
        """Return the names of the classes 0, 1, ... that the `labels` (n,) of the parts have.

        Warn of classes that a part has no images of.

        Raises:
            ConfigError: if names are missing, equal, or cannot be read.
            DataError: if the labels leave out numbers, or if only one class or less than half of
                them are trained or validated; unless `allow_missing`.
        """
        names = self._names(np.unique(np.concatenate([*labels.values()])), source)
        counts = {part: np.bincount(of, minlength=len(names)) for part, of in labels.items()}
        problem = _meaningless(counts, names)
        if problem and not self.allow_missing:
            raise DataError(
                f"{source}: {problem} ({_table(counts, names)}); shuffle the images in the files, "
                f"or allow it: {ALLOW}"
            )
        if warning := problem or _uneven(counts, names):
            log.warning("%s: %s (%s)", source, warning, _table(counts, names))
        return names

    def _names(self, present: NDArray[np.uint8], source: str) -> tuple[str, ...]:
        """Return a name for each class up to the last of the labels that are `present`."""
        count = 1 + int(present[-1])
        meant = f"the labels are {_listed_labels(present)}, and classes count from 0"
        cure = f"write labels 0 to {len(present) - 1} into the files"
        if self.given is None:
            if len(present) < count and not self.allow_missing:
                raise DataError(f"{source}: {meant}; {cure}; or allow {count} outputs: {ALLOW}")
            return tuple(map(str, range(count)))
        _check_names(self.given)
        if len(self.given) < count:
            gaps = f", or {cure}" if len(present) < count else ""
            raise ConfigError(
                f"data.class_names: {len(self.given)} names for {count} classes; {meant}; name "
                f"each{gaps}"
            )
        return tuple(self.given)


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        check_name("data.class_names", name)
        if name != name.strip():
            raise ConfigError(f"data.class_names: {name!r} has spaces around it")
    if repeated := [name for name, times in Counter(names).items() if times > 1]:
        raise ConfigError(f"data.class_names: {', '.join(repeated)}: stands there more than once")


def _meaningless(counts: Mapping[str, NDArray[np.intp]], names: Sequence[str]) -> str | None:
    some = np.count_nonzero(np.sum([*counts.values()], axis=0))
    for part in ("train", "validation"):
        present = np.flatnonzero(counts[part])
        if len(present) == 1:
            return f"all {part} images are of one class, {names[present[0]]}"
        if 2 * len(present) < some:
            return f"the {part} images are of {len(present)} of {some} classes only"
    return None


def _uneven(counts: Mapping[str, NDArray[np.intp]], names: Sequence[str]) -> str | None:
    """Say which classes are missing from a part, or that one makes up most of the training."""
    missing = [
        f"no {part} image of {_listed(lacking)}"
        for part, of_classes in counts.items()
        if (lacking := [name for name, n in zip(names, of_classes, strict=True) if n == 0])
    ]
    if missing:
        return "; ".join(missing)
    most = int(counts["train"].argmax())
    share = counts["train"][most] / counts["train"].sum()
    if share > MOSTLY:
        return f"{share:.0%} of the train images are of one class, {names[most]}"
    return None


def _table(counts: Mapping[str, NDArray[np.intp]], names: Sequence[str]) -> str:
    """List how many images of each class the parts have; of many classes the fewest."""
    columns = np.stack([*counts.values()])
    shown = np.sort(np.argsort(columns.min(axis=0), kind="stable")[:LISTED])
    listed = [f"{names[label]} {'/'.join(map(str, columns[:, label]))}" for label in shown]
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{'/'.join(counts)} images: {', '.join(listed)}{more}"


def _listed_labels(labels: NDArray[np.uint8]) -> str:
    """Write labels in a line: "1 to 10", "10, 20, 30"."""
    first, last = int(labels[0]), int(labels[-1])
    if last - first == len(labels) - 1 and len(labels) > 2:
        return f"{first} to {last}"
    return _listed(list(map(str, labels)))


def _listed(texts: Sequence[str]) -> str:
    """Write texts in a line: "a, b, c, ... z"."""
    if len(texts) > LISTED:
        texts = [*texts[: LISTED - 2], f"... {texts[-1]}"]
    return ", ".join(texts)
