"""What a run is told about the command and the sweep that it belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fmnist.tracking.git import GitState


@dataclass(frozen=True)
class JobContext:
    """Who a job is; the lower floors never ask Hydra or the sweep."""

    overrides: tuple[str, ...] = ()  # of Hydra, as typed: "seed=1"
    choices: Mapping[str, str] = field(
        default_factory=dict
    )  # by groups of conf/: {"model": "relu"}
    options: tuple[str, ...] = ()  # of Hydra that choose other configuration files
    hydra_dir: str | None = None  # made for this command or job; None: Hydra did not start it
    study_run_id: str | None = None  # of the study whose job this is; None: it is a single run
    trial: int | None = None  # of a search: its number; None: it is none, so its run is evidence
    threads: int | None = None  # where the configuration has none; None: one for each processor
    git: GitState | None = None  # of the command; None: it is asked for
