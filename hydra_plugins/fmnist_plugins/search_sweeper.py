"""A search by Optuna: trials, then the best of them over fresh seeds.

Optuna suggests trials and keeps them in a journal; the chosen launcher runs them as jobs; a job
asks Optuna after each epoch whether it is pruned.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus
from hydra.utils import instantiate
from omegaconf import DictConfig

from fmnist.common.errors import NOT_INSTALLED, ConfigError
from fmnist.config.schema import Study
from fmnist.sweeps import journal
from fmnist.sweeps.job_state import JobState, find
from fmnist.sweeps.overrides import Overrides
from fmnist.sweeps.study_sweeper import StudyPlan, StudySweeper

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from fmnist.tracking.studies import OpenStudy


class SearchSweeper(StudySweeper):
    """Lets Optuna suggest trials batch by batch, then runs the best over fresh seeds.

    Args:
        trials: how many.
        batch: how many are suggested before the first of them has ended.
        fresh_seeds: for the best and for the start; no trial had them.
        sampler: of Optuna, described by its `_target_`; gets a seed.
        pruner: likewise; the jobs ask it which trials end early.
        params: what is searched, as overrides; the command line replaces them.
    """

    def __init__(
        self,
        *,
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

    def plan(self, study: Study, overrides: Overrides) -> StudyPlan:
        """State that the best trial is compared with the start."""
        try:
            from fmnist.sweeps import search
        except ModuleNotFoundError as error:
            raise ConfigError(f"hydra/sweeper=optuna: {NOT_INSTALLED}") from error

        self.space = search.search_space(self.config, overrides)
        design = search.search_design(self.config, study, self.space)
        return StudyPlan(design, self.trials, self.trials)

    def resume(self, earlier: str) -> int:
        """Continue the trials of an earlier search; return how many of them have ended."""
        return journal.continue_journal(earlier, self.folder)

    def launch_all(self) -> None:
        """Run the whole search; a job that fails costs only itself.

        Raises:
            Exception: at the end, that of the first job that failed, other than by divergence.
        """
        from optuna.trial import TrialState

        study = journal.open_study(self.folder)
        failed = self._run_trials(study)
        if study.get_trials(states=(TrialState.COMPLETE,)):
            failed += self._run_fresh_seeds(study.best_trial)
        for job in failed:
            _ = job.return_value  # raises its error

    def conclude(self, study: "OpenStudy", status: str) -> None:
        """End the study with the comparison, and with what the search found."""
        from fmnist.evidence.pooling import variant_name
        from fmnist.reports.search_report import best_trial
        from fmnist.sweeps.search import as_recorded
        from fmnist.tracking import search_results, study_comparison

        record = journal.read(self.folder)
        if best := best_trial(record.trials):
            variant = variant_name(as_recorded(self.config, best.params), list(best.params))
            search_results.name_variant(study, variant, best.variant)
        search_results.conclude(study, record, study_comparison.conclude(study, status))

    def _run_trials(self, study: "optuna.Study") -> list[JobReturn]:
        """Run the trials that are left; return the jobs that failed."""
        from fmnist.sweeps.search import overrides_of

        if not study.get_trials():
            study.enqueue_trial(self.space.start)
        failed: list[JobReturn] = []
        while trials := self._next_trials(study):
            jobs = [[*self.space.fixed, *overrides_of(trial.params)] for trial in trials]
            results = self.launch(jobs, trials[0].number)
            for trial, result in zip(trials, results, strict=True):
                if not record_trial(study, trial.number, find(self.folder, trial.number)):
                    failed.append(result)
            if len(failed) == len(study.get_trials()):  # the command is wrong, not a trial
                break
        return failed

    def _next_trials(self, study: "optuna.Study") -> "list[FrozenTrial]":
        """Return the next batch; first the trials that ran when the search was stopped.

        The sampler of each trial has a seed of its own: the trials of a search do not depend on
        whether it was stopped.
        """
        from optuna.trial import TrialState

        running = len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        known = sum(t.state is not TrialState.WAITING for t in study.get_trials(deepcopy=False))
        for number in range(known, min(known - running + self.batch, self.trials)):
            study.sampler = instantiate(self.sampler)(seed=self.config.seed + number)
            with warnings.catch_warnings():  # the start may lie outside of a range
                warnings.filterwarnings("ignore", message="Fixed parameter")
                study.ask(self.space.distributions)
        return study.get_trials(states=(TrialState.RUNNING,))

    def _run_fresh_seeds(self, best: "FrozenTrial") -> list[JobReturn]:
        """Run the best and the start over fresh seeds; return the jobs that failed."""
        from fmnist.sweeps.search import overrides_of

        if best.number == 0:
            return []  # the start itself
        fixed = [override for override in self.space.fixed if not override.startswith("seed=")]
        jobs = [
            [*fixed, *overrides_of(values), f"seed={seed}"]
            for values in (best.params, self.space.start)
            for seed in self.fresh_seeds
        ]
        self.progress.planned += len(jobs)
        results = self.launch(jobs, self.trials)
        return [result for result in results if result.status is not JobStatus.COMPLETED]


def record_trial(study: "optuna.Study", number: int, job: JobState | None) -> bool:
    """Record how a trial ended; return False if it failed, which divergence does not count as."""
    from optuna.trial import TrialState

    if job is None or not job.ended or (job.error and not job.diverged):
        study.tell(number, state=TrialState.FAIL)
        return False
    if job.diverged or journal.PRUNED_AFTER in study.get_trials(deepcopy=False)[number].user_attrs:
        study.tell(number, state=TrialState.PRUNED)
    else:
        study.tell(number, job.objective)
    return True
