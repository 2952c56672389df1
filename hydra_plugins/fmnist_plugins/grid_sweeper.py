"""A grid: one job for each combination of the values that are listed."""

import math
from itertools import product
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from fmnist.common.errors import ConfigError
from fmnist.config.schema import Study
from fmnist.sweeps.overrides import MAX_JOBS, Overrides, listed_values, parsed_seeds, swept
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
        models = values.get("model", [])
        if study.baseline not in (None, *models) and list(values) == ["model"]:
            raise ConfigError(f"study.baseline={study.baseline}: choose one of {', '.join(models)}")
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


def _combinations(overrides: Overrides) -> list[list[str]]:
    options = [
        [f"{key}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [str(override.input_line)]
        for key, override in overrides.items()
    ]
    return [list(job) for job in product(*options)]
