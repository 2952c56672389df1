"""The trial of a search that this process does: what it reports, and whether it is hopeless."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate

if TYPE_CHECKING:
    import optuna

SEARCH = "fmnist.search.Search"
JOURNAL = "search.journal"
"""Where a search keeps its trials, in the folder of the sweep."""

STOPPED = "stopped"  # of a trial, in the journal: the epoch after which it was hopeless, from 1


def number() -> int | None:
    """Return the number of the trial, which is that of the job; None if this is no trial."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra is None or hydra.mode is not RunMode.MULTIRUN or hydra.sweeper._target_ != SEARCH:
        return None
    job = int(hydra.job.num)
    return job if job < hydra.sweeper.trials else None


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


def current() -> "optuna.Trial | None":
    """Return the trial that this process does, which can be asked whether it is hopeless."""
    own = number()
    if own is None:
        return None
    import optuna

    sweep = HydraConfig.get().sweep.dir
    study = open_study(sweep, instantiate(HydraConfig.get().sweeper.pruner))
    return optuna.Trial(study, study.get_trials(deepcopy=False)[own]._trial_id)
