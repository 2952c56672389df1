"""A grid: one job for each combination of the values that are listed."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from fmnist.common.errors import ConfigError
from fmnist.config.schema import Study
from fmnist.sweeps.overrides import (
    MAX_JOBS,
    Overrides,
    listed_values,
    parsed_seeds,
    parsed_value,
    swept,
)
from fmnist.sweeps.study_sweeper import StudySweeper

if TYPE_CHECKING:
    from fmnist.evidence.comparison import StudyDesign


class GridSweeper(StudySweeper):
    """Launches all combinations of the listed values, the last key varying fastest.

    The arguments are those of Hydra's own, explained in conf/hydra/sweeper/basic.yaml.
    """

    def __init__(self, max_batch_size: int | None = None, params: DictConfig | None = None) -> None:
        super().__init__(params)
        self.max_batch_size = max_batch_size

    def plan(self, study: Study, overrides: Overrides) -> "StudyDesign":
        from fmnist.evidence.comparison import StudyDesign

        values = {key: listed_values(override) for key, override in swept(overrides).items()}
        self.planned = math.prod(map(len, values.values()))
        if self.planned > MAX_JOBS:
            raise ConfigError(
                f"{', '.join(values)}: more than {MAX_JOBS:,} jobs; that is the maximum"
            )
        seeds = parsed_seeds(values.pop("seed", [self.config.seed]))
        if study.baseline is not None:
            chosen = self.config.hydra.runtime.choices.model
            if "model" in overrides and "model" not in values:
                chosen = str(overrides["model"].value())
            _check_baseline(study.baseline, values or {"model": [chosen]})
        self.jobs = _combinations(overrides)
        return StudyDesign(
            study.question,
            study.metric.name,
            tuple(values) or ("model",),
            study.baseline,
            study.min_effect,
            math.prod(map(len, values.values())),
            seeds,
        )

    def launch_all(self) -> None:
        """Launch all jobs; after a batch with a job that failed, no other."""
        size = self.max_batch_size or len(self.jobs)
        for first in range(0, len(self.jobs), size):
            for job in self.launcher.launch(self.jobs[first : first + size], first):
                _ = job.return_value  # raises the error of a job that failed


def _check_baseline(baseline: str, values: Mapping[str, Sequence[str]]) -> None:
    """Refuse a baseline that is none of the variants, before anything is trained."""
    from fmnist.evidence.pooling import variant_name

    def names(options: Iterable[Iterable[str]]) -> Iterator[str]:
        keys = tuple(values)
        return (variant_name(dict(zip(keys, row, strict=True)), keys) for row in product(*options))

    if baseline not in names(map(_spellings, values.values())):
        choices = ", ".join(names(values.values()))
        raise ConfigError(f"study.baseline={baseline}: choose one of {choices}")


def _spellings(values: Sequence[str]) -> set[str]:
    """Return the values as typed and as a run may record them: 0.01 for 1e-2, True for true."""
    parsed = [parsed_value(value) for value in values]
    numbers = [float(value) for value in parsed if isinstance(value, int | float)]
    return {*values, *map(str, parsed), *map(str, numbers)}


def _combinations(overrides: Overrides) -> list[list[str]]:
    options = [
        [f"{key}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [str(override.input_line)]
        for key, override in overrides.items()
    ]
    return [list(job) for job in product(*options)]
