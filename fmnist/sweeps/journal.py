"""Optuna's journal of a search: opened, continued, read, and asked by a trial whether it ends."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate

if TYPE_CHECKING:
    import optuna

    from fmnist.tracking.search_results import SearchRecord
    from fmnist.training.callbacks import Pruner

JOURNAL = "search.journal"  # in the folder of the sweep
PRUNED_AFTER = "stopped"  # user attribute of a trial: the epoch after which it was pruned, from 1


def open_study(folder: str, pruner: "optuna.pruners.BasePruner | None" = None) -> "optuna.Study":
    """Open the trials of the sweep in `folder`, new if there are none; to maximise accuracy."""
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(Path(folder, JOURNAL))))
    return optuna.create_study(
        storage=storage,
        study_name="search",
        pruner=pruner,
        direction="maximize",
        load_if_exists=True,
    )


def continue_journal(earlier: str, folder: str) -> int:
    """Continue the trials of an earlier sweep in `folder`; return how many have ended."""
    journal = Path(earlier, JOURNAL)
    if not journal.is_file():
        return 0
    if Path(earlier).resolve() != Path(folder).resolve():
        shutil.copy(journal, folder)
    return sum(t.state.is_finished() for t in open_study(folder).get_trials(deepcopy=False))


def read(folder: str) -> "SearchRecord":
    """Return what the journal of the sweep in `folder` holds, as plain data."""
    from optuna.trial import TrialState

    from fmnist.reports import search_report
    from fmnist.sweeps.search import as_typed
    from fmnist.tracking.search_results import SearchRecord

    states = {
        TrialState.COMPLETE: search_report.TrialState.finished,
        TrialState.PRUNED: search_report.TrialState.pruned,
        TrialState.FAIL: search_report.TrialState.failed,
        TrialState.RUNNING: search_report.TrialState.running,
    }
    study = open_study(folder)
    trials = [
        search_report.TrialSummary(
            trial.number,
            as_typed(trial.params),
            states[trial.state],
            trial.value,
            trial.intermediate_values,
            trial.user_attrs.get(PRUNED_AFTER),
        )
        for trial in study.get_trials(states=tuple(states))
    ]
    csv = study.trials_dataframe().to_csv(index=False)
    return SearchRecord(trials, csv, Path(folder, JOURNAL))


def pruner_of(folder: str, number: int) -> "Pruner":
    """Return what asks the search in `folder` after each epoch whether trial `number` ends."""
    import optuna

    study = open_study(folder, instantiate(HydraConfig.get().sweeper.pruner))
    trial = optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)

    def should_prune(epoch: int, val_accuracy: float, last: bool) -> bool:
        trial.report(val_accuracy, epoch)
        pruned = not last and trial.should_prune()
        if pruned:
            trial.set_user_attr(PRUNED_AFTER, epoch)
        return pruned

    return should_prune
