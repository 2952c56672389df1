"""What a run is told about the command and the sweep that it belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class JobContext:
    """Who a job is; the lower floors never ask Hydra or the sweep."""

    overrides: tuple[str, ...] = ()  # of Hydra, as typed: "seed=1"
    choices: Mapping[str, str] = field(
        default_factory=dict
    )  # by groups of conf/: {"model": "relu"}
    hydra_dir: str | None = None  # made for this command or job; None: Hydra did not start it
    study_run_id: str | None = None  # of the study whose job this is; None: it is a single run
    trial: int | None = None  # of a search: its number; None: it is none, so its run is evidence
    jobs_at_once: bool = False  # whether other jobs of the sweep run at the same time
