"""The journal in which Optuna keeps the trials of a search, and the pruner that a trial asks."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate

if TYPE_CHECKING:
    import optuna

    from fmnist.training.callbacks import Pruner

JOURNAL = "search.journal"  # in the folder of the sweep
PRUNED_AFTER = "stopped"  # user attribute of a trial: the epoch after which it was pruned, from 1


def continue_journal(earlier: str, folder: str) -> int:
    """Let the sweep in `folder` go on with the trials of an earlier one; return how many ended."""
    journal = Path(earlier, JOURNAL)
    if not journal.is_file():
        return 0
    if Path(earlier).resolve() != Path(folder).resolve():
        shutil.copy(journal, folder)
    return sum(one.state.is_finished() for one in open_study(folder).get_trials(deepcopy=False))


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


def pruner_of(folder: str, number: int) -> "Pruner":
    """Return what asks the search in `folder` after each epoch whether trial `number` shall end."""
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
