"""A search by Optuna: trials, then the best of them over fresh seeds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.utils import instantiate
from omegaconf import DictConfig

from fmnist.config.schema import Study
from fmnist.sweeps.job_state import find
from fmnist.sweeps.overrides import Overrides
from fmnist.sweeps.study_sweeper import StudySweeper

if TYPE_CHECKING:
    import optuna

    from fmnist.evidence.comparison import StudyDesign
    from fmnist.tracking.studies import OpenStudy


class SearchSweeper(StudySweeper):
    """Lets Optuna suggest trials, which jobs ask after each epoch whether they are pruned.

    The arguments are explained in conf/hydra/sweeper/optuna.yaml.
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

    def plan(self, study: Study, overrides: Overrides) -> "StudyDesign":
        from fmnist.sweeps import search_space  # only now: it imports Optuna

        self.space = search_space.search_space(self.config, overrides)
        self.planned = self.job.trials = self.trials  # and later the fresh seeds
        return search_space.search_design(self.config, study, self.space)

    def resume(self, earlier: str | None) -> int:
        from fmnist.sweeps import journal

        return journal.continue_journal(earlier, self.folder)

    def launch_all(self) -> None:
        """Run the trials, then the best and the start over fresh seeds; raise errors at the end."""
        from fmnist.sweeps import journal

        study = journal.open_study(self.folder)
        failed = self._run_trials(study)
        if best := journal.better_trial(study):
            failed += self._run_fresh_seeds(best.params)
        for job in failed:
            _ = job.return_value  # raises its error

    def conclude(self, study: "OpenStudy", status: str) -> None:
        from fmnist.evidence.pooling import variant_name
        from fmnist.reports.search_report import best_trial
        from fmnist.sweeps import journal
        from fmnist.sweeps.search_space import as_recorded
        from fmnist.tracking import study_comparison

        record = journal.read(self.folder)
        if best := best_trial(record.trials):
            params = as_recorded(self.config, best.params)
            variant = variant_name(params, list(self.space.distributions))
            study_comparison.name_variant(study, variant, best.variant)
        comparison = study_comparison.conclude(study, status)
        study_comparison.conclude_search(study, record, comparison)

    def _run_trials(self, study: "optuna.Study") -> list[JobReturn]:
        """Run the trials that are left; return the jobs that failed."""
        from fmnist.sweeps import journal
        from fmnist.sweeps.search_space import overrides_of

        failed: list[JobReturn] = []
        while trials := journal.next_trials(
            study, self.space, self._sampler, self.batch, self.trials
        ):
            jobs = [[*self.space.fixed, *overrides_of(trial.params)] for trial in trials]
            results = self.launcher.launch(jobs, trials[0].number)
            for trial, result in zip(trials, results, strict=True):
                if not journal.record_trial(study, trial.number, find(self.folder, trial.number)):
                    failed.append(result)
            if len(failed) == len(study.get_trials()):  # the command is wrong, not a trial
                break
        return failed

    def _sampler(self, number: int) -> Any:
        return instantiate(self.sampler)(seed=self.config.seed + number)

    def _run_fresh_seeds(self, best: dict[str, Any]) -> list[JobReturn]:
        """Return the jobs that failed."""
        from fmnist.sweeps.search_space import overrides_of

        fixed = [override for override in self.space.fixed if not override.startswith("seed=")]
        jobs = [
            [*fixed, *overrides_of(values), f"seed={seed}"]
            for values in (best, self.space.start)
            for seed in self.fresh_seeds
        ]
        self.progress.planned += len(jobs)
        results = self.launcher.launch(jobs, self.trials)
        return [result for result in results if result.status is not JobStatus.COMPLETED]
