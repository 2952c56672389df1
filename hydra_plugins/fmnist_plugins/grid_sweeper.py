"""A grid: one job for each combination of the values that are listed."""

import math
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from fmnist.config.schema import Study
from fmnist.sweeps.overrides import check_baseline, seeds_of
from fmnist.sweeps.study_sweeper import StudyPlan, StudySweeper


class GridSweeper(StudySweeper):
    """Launches all combinations of the listed values, the last key varying fastest.

    Args:
        max_batch_size: jobs that are launched together; None: all.
        params: what is swept, as overrides; the command line goes before them.
    """

    def __init__(self, max_batch_size: int | None = None, params: DictConfig | None = None) -> None:
        super().__init__(params)
        self.max_batch_size = max_batch_size

    def plan(self, study: Study, swept: dict[str, list[str]]) -> StudyPlan:
        """State that the variants are compared over the seeds."""
        from fmnist.evidence.comparison import StudyDesign

        assert self.config is not None
        variants = {key: values for key, values in swept.items() if key != "seed"}
        check_baseline(study.baseline, variants)
        design = StudyDesign(
            study.question,
            study.metric.name,
            tuple(variants) or ("model",),
            study.baseline,
            study.min_effect,
            math.prod(map(len, variants.values())) or None,
            seeds_of(swept.get("seed", [self.config.seed])),
        )
        return StudyPlan(design, math.prod(map(len, swept.values())) or None)

    def launch_all(self, arguments: list[str], folder: str) -> list[JobReturn]:
        """Launch all jobs.

        Raises:
            Exception: that of the first job that failed.
        """
        jobs = self._combinations(arguments)
        size = self.max_batch_size or len(jobs)
        done: list[JobReturn] = []
        for first in range(0, len(jobs), size):
            returns = self.launch(jobs[first : first + size], first)
            for returned in returns:
                _ = returned.return_value  # raises the error of a job that failed
            done += returns
        return done

    def _combinations(self, arguments: list[str]) -> list[list[str]]:
        """Return the overrides of each job."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(self.hydra_context.config_loader)
        given = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        values: dict[str, list[str]] = {}
        for override in parser.parse_overrides(given):
            key = override.get_key_element()
            if override.is_sweep_override():
                values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            else:
                values[key] = [f"{key}={override.get_value_element_as_str()}"]
        return [list(job) for job in product(*values.values())]
