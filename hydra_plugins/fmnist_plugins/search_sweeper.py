"""A search by Optuna: trials, then the best of them over fresh seeds.

Optuna suggests (and keeps what was suggested and came of it in a journal), whatever launcher is
chosen does the jobs, and a job asks Optuna after each epoch whether it shall end.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus
from hydra.utils import instantiate
from omegaconf import DictConfig

from fmnist.common.errors import NOT_INSTALLED, ConfigError, TrainingError
from fmnist.config.schema import Study
from fmnist.sweeps import trial
from fmnist.sweeps.study_sweeper import StudyPlan, StudySweeper

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from fmnist.tracking.studies import OpenStudy


class SearchSweeper(StudySweeper):
    """Lets Optuna suggest trials batch by batch, then tries the best over fresh seeds.

    Args:
        trials: how many.
        batch: how many are suggested before the first of them is done.
        fresh_seeds: for the best and for where the search began; no trial had them.
        sampler: of Optuna, described by its `_target_`; gets a seed.
        pruner: likewise; the jobs ask it which trials end early.
        params: what is searched, as overrides; the command line goes before them.
    """

    def __init__(
        self,
        trials: int,
        batch: int,
        fresh_seeds: Sequence[int],
        sampler: DictConfig,
        pruner: DictConfig,
        params: DictConfig,
    ) -> None:
        super().__init__(params)
        self.trials, self.batch, self.fresh_seeds = trials, batch, fresh_seeds
        self.sampler = sampler

    def plan(self, study: Study, swept: dict[str, list[str]]) -> StudyPlan:
        """State that the best trial is compared with where the search began."""
        try:
            from fmnist.sweeps import search
        except ModuleNotFoundError as error:
            raise ConfigError(f"hydra/sweeper=optuna: {NOT_INSTALLED}") from error

        assert self.config is not None
        design = search.search_design(self.config, study)
        return StudyPlan(design, self.trials + 2 * len(design.seeds), self.trials)

    def resume(self, earlier: str, folder: str) -> int:
        """Go on with the trials of an earlier search; return how many of them ended."""
        return trial.continue_journal(earlier, folder)

    def launch_all(self, arguments: list[str], folder: str) -> list[JobReturn]:
        """Do the whole search; a failed job costs only itself, and its error is raised at the end.

        Raises:
            Exception: that of the first job that failed, but for one whose training diverged.
        """
        from optuna.trial import TrialState

        from fmnist.sweeps import search

        self.fixed, space = search.parsed(self.params, arguments)
        study = trial.open_study(folder)
        failed = self._try_all(study, space)
        if study.get_trials(states=(TrialState.COMPLETE,)):
            failed += self._try_anew(study.best_trial)
        if failed:
            raise failed[0]._return_value
        return []

    def conclude(self, study: "OpenStudy", folder: str, status: str) -> None:
        """End the study with the comparison, and with what the search found."""
        from fmnist.sweeps import search_report
        from fmnist.tracking import study_comparison

        search_report.name_best(study, folder)
        search_report.conclude(study, folder, study_comparison.conclude(study, status))

    def _try_all(
        self, study: "optuna.Study", space: "dict[str, BaseDistribution]"
    ) -> list[JobReturn]:
        """Do the trials that are left; return the jobs that failed."""
        from optuna.distributions import CategoricalDistribution

        from fmnist.sweeps import search

        assert self.config is not None
        if not study.get_trials():
            began = search.start(self.config, space)
            choices = {k for k, d in space.items() if isinstance(d, CategoricalDistribution)}
            study.enqueue_trial({k: str(v) if k in choices else v for k, v in began.items()})
        failed: list[JobReturn] = []
        while waiting := self._suggested(study, space):
            jobs = [[*self.fixed, *search.overrides_of(one.params)] for one in waiting]
            returns = self.launch(jobs, waiting[0].number)
            for one, returned in zip(waiting, returns, strict=True):
                if not _tell(study, one.number, returned):
                    failed.append(returned)
            if len(failed) == len(study.get_trials()):  # the command is wrong, not a trial
                break
        return failed

    def _suggested(
        self, study: "optuna.Study", space: "dict[str, BaseDistribution]"
    ) -> "list[FrozenTrial]":
        """Return the next trials; first those under way when the search was stopped.

        A trial is suggested by a sampler of a seed of its own: what a search does does not depend
        on whether it was stopped.
        """
        from optuna.trial import TrialState

        assert self.config is not None
        begun = len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        known = sum(t.state is not TrialState.WAITING for t in study.get_trials(deepcopy=False))
        for number in range(known, min(known - begun + self.batch, self.trials)):
            study.sampler = instantiate(self.sampler)(seed=self.config.seed + number)
            with warnings.catch_warnings():  # where it begins may lie outside of a range
                warnings.filterwarnings("ignore", message="Fixed parameter")
                study.ask(space)
        return study.get_trials(states=(TrialState.RUNNING,))

    def _try_anew(self, best: "FrozenTrial") -> list[JobReturn]:
        """Try the best and where the search began over fresh seeds; return the jobs that failed."""
        from fmnist.sweeps import search

        assert self.config is not None
        if best.number == 0:
            return []  # where it began
        fixed = [one for one in self.fixed if not one.startswith("seed=")]
        sides = [best.params, search.start(self.config, best.params)]
        jobs = [
            [*fixed, *search.overrides_of(side), f"seed={seed}"]
            for side in sides
            for seed in self.fresh_seeds
        ]
        returns = self.launch(jobs, self.trials)
        return [one for one in returns if one.status is not JobStatus.COMPLETED]


def _tell(study: "optuna.Study", number: int, returned: JobReturn) -> bool:
    """Tell Optuna what came of a trial; return False if it failed, which divergence is not."""
    from optuna.trial import TrialState

    if returned.status is JobStatus.COMPLETED:
        if trial.PRUNED_AFTER in study.get_trials(deepcopy=False)[number].user_attrs:
            study.tell(number, state=TrialState.PRUNED)
        else:
            study.tell(number, returned.return_value)
        return True
    diverged = isinstance(returned._return_value, TrainingError)
    study.tell(number, state=TrialState.PRUNED if diverged else TrialState.FAIL)
    return diverged
