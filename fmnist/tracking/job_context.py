"""What a run is told about the command and the sweep that it belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class JobContext:
    """Who a job is; the lower floors never ask Hydra or the sweep.

    Attributes:
        overrides: of Hydra, as typed: "seed=1".
        choices: what was chosen from each group of conf/: `{"model": "relu", ...}`.
        hydra_dir: the folder that Hydra made for this command or job; None: Hydra did not start it.
        study_run_id: run id of the study whose job this is; None: it is a single run.
        trial: number of the trial of a search; None: it is none, so its run is evidence.
        jobs_at_once: whether other jobs of the sweep run at the same time.
    """

    overrides: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    hydra_dir: str | None = None
    study_run_id: str | None = None
    trial: int | None = None
    jobs_at_once: bool = False
