"""Optuna's journal of a search: the trials that it suggests, and how each ended."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from fmnist.sweeps.job_state import JobState
from fmnist.sweeps.search_space import SearchSpace, as_typed

if TYPE_CHECKING:
    from fmnist.tracking.study_comparison import SearchRecord
    from fmnist.training.callbacks import Pruner

JOURNAL = "search.journal"  # in the folder of the sweep
PRUNED_AFTER = "stopped"  # user attribute of a trial: the epoch after which it was pruned, from 1
STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


def open_study(folder: str, pruner: optuna.pruners.BasePruner | None = None) -> optuna.Study:
    """Open the trials of the sweep in `folder`, new if there are none; to maximise accuracy."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(Path(folder, JOURNAL))))
    return optuna.create_study(
        storage=storage,
        study_name="search",
        pruner=pruner,
        direction="maximize",
        load_if_exists=True,
    )


def continue_journal(earlier: str | None, folder: str) -> int:
    """Continue the trials of an earlier sweep in `folder`; return how many have ended.

    If there is none, the trials begin, whatever other sweep has used the folder.
    """
    journal = Path(earlier or folder, JOURNAL)
    if earlier is None or not journal.is_file():
        Path(folder, JOURNAL).unlink(missing_ok=True)
        return 0
    if Path(earlier).resolve() != Path(folder).resolve():
        shutil.copy(journal, folder)
    return sum(t.state.is_finished() for t in open_study(folder).get_trials(deepcopy=False))


def next_trials(
    study: optuna.Study,
    space: SearchSpace,
    sampler_of: Callable[[int], optuna.samplers.BaseSampler],
    batch: int,
    trials: int,
) -> list[FrozenTrial]:
    """Suggest the next `batch` of all `trials`, and return those that run now.

    Trials that ran when the search was stopped come first. Each trial has a sampler of its own, by
    its number: the trials of a search do not depend on whether it was stopped.
    """
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(space.start)
    begun = [t for t in study.get_trials(deepcopy=False) if t.state is not TrialState.WAITING]
    ended = sum(trial.state.is_finished() for trial in begun)
    for number in range(len(begun), min(ended + batch, trials)):
        study.sampler = sampler_of(number)
        with warnings.catch_warnings():  # the start may lie outside of a range
            warnings.filterwarnings("ignore", message="Fixed parameter")
            study.ask(space.distributions)
    return study.get_trials(states=(TrialState.RUNNING,))


def pruner_of(folder: str, number: int) -> "Pruner":
    """Return what asks the search in `folder` after each epoch whether trial `number` ends."""
    study = open_study(folder, instantiate(HydraConfig.get().sweeper.pruner))
    trial = optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)

    def should_prune(epoch: int, val_accuracy: float, last: bool) -> bool:
        trial.report(val_accuracy, epoch)
        pruned = not last and trial.should_prune()
        if pruned:
            trial.set_user_attr(PRUNED_AFTER, epoch)
        return pruned

    return should_prune


def record_trial(study: optuna.Study, number: int, job: JobState | None) -> bool:
    """Record how a trial ended; return False if it failed, which divergence does not count as."""
    if job is None or not job.ended or (job.error and not job.diverged):
        study.tell(number, state=TrialState.FAIL)
        return False
    if job.diverged or PRUNED_AFTER in study.get_trials(deepcopy=False)[number].user_attrs:
        study.tell(number, state=TrialState.PRUNED)
    else:
        study.tell(number, job.objective)
    return True


def better_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the best trial if it is better than the start, which is trial 0."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return None
    return study.best_trial if study.best_trial.number else None


def read(folder: str) -> "SearchRecord":
    """Return what the journal of the sweep in `folder` holds, as plain data."""
    from fmnist.reports import search_report  # only now: a job does not wait for Matplotlib
    from fmnist.tracking.study_comparison import SearchRecord

    study = open_study(folder)
    trials = [
        search_report.TrialSummary(
            trial.number,
            as_typed(trial.params),
            search_report.TrialState(STATES[trial.state]),
            trial.value,
            trial.intermediate_values,
            trial.user_attrs.get(PRUNED_AFTER),
        )
        for trial in study.get_trials(states=tuple(STATES))
    ]
    csv = study.trials_dataframe().to_csv(index=False)
    return SearchRecord(trials, csv, Path(folder, JOURNAL))
