"""Which stopped run is resumed: the one that `resume=` names, or that of an interrupted sweep."""

import dataclasses
import logging
import shutil
from pathlib import Path

from fmnist.common.errors import ConfigError
from fmnist.config.schema import Config, Tracking, rebased
from fmnist.data.datasets import Dataset
from fmnist.tracking import tag
from fmnist.tracking.heartbeat import LOCK, is_alive
from fmnist.tracking.job_context import JobContext
from fmnist.tracking.provenance import run_differences, signature
from fmnist.tracking.run_inputs import config_of_run
from fmnist.tracking.store import Run, Store, find_run, search
from fmnist.tracking.store_uri import without_password

ALLOWED_OVERRIDES = ("resume=", "tracking.")  # beside `resume=`


def named(store: Store, config: Config, context: JobContext) -> Run:
    """Return the run that `resume=` names; refuse one that cannot be resumed here."""
    key = f"resume={config.resume}"
    overrides = [o for o in context.overrides if not o.lstrip("+").startswith(ALLOWED_OVERRIDES)]
    if overrides:
        raise ConfigError(f"{key}: cannot be combined with other overrides: {' '.join(overrides)}")
    run = find_run(str(config.resume))
    if run is None:
        uri = without_password(store.uri)
        raise ConfigError(f"{key}: there is no such run in this store ({uri})")
    if reason := resume_blocker(run):
        raise ConfigError(f"{key}: {reason}")
    return run


def recorded_config(run: Run, tracking: Tracking) -> Config:
    recorded = config_of_run(run, run.data.tags[tag.FOLDER], tracking.uri)
    return dataclasses.replace(recorded, tracking=tracking)


def resume_blocker(run: Run, here: str | None = None) -> str | None:
    """Say why a run cannot be resumed; None: it can.

    If `here`, the folder of this process, is the run's own, this is the same job once more, after
    the process that did it died, also on another host.
    """
    tags = run.data.tags
    if tag.SWEEP in tags:
        return f"is a sweep; resume it with: {tags.get(tag.COMMAND, 'its command, typed again')}"
    if tag.REPRODUCES in tags:
        return f"is a reproduction; again: python -m fmnist reproduce {tags[tag.REPRODUCES]}"
    if run.info.status == "FINISHED":
        return "is finished; `python -m fmnist reproduce` trains it again"
    if not {tag.SIGNATURE, tag.HOST, tag.PID, tag.FOLDER} <= tags.keys():
        return "was not made by train.py"
    if tags[tag.FOLDER] != here and is_alive(run):
        return f"is running in process {tags[tag.PID]} on {tags[tag.HOST]}"
    if not Path(tags[tag.FOLDER], LOCK).is_file():  # else a store could name any folder
        return f"its folder {tags[tag.FOLDER]}, on {tags[tag.HOST]}, is not here"
    return None


def check_same(run: Run, config: Config, dataset: Dataset) -> None:
    """Refuse to resume with other data, code or libraries than the run began with."""
    if signature(config, dataset.fingerprint) != run.data.tags[tag.SIGNATURE]:
        differences = run_differences(run, config, dataset) or ["its configuration"]
        raise ConfigError(
            f"resume={run.info.run_id}: would not come to the same weights: "
            f"{'; '.join(differences)}; restore these, or start again with: "
            + run.data.tags.get(tag.COMMAND, "train.py")
        )


def log_into(folder: Path, context: JobContext) -> None:
    """Continue the log in the folder of the run, and remove the one that Hydra made for it."""
    if context.hydra_dir is None or Path(context.hydra_dir) == folder:
        return
    new_folder = Path(context.hydra_dir)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            path = Path(handler.baseFilename)
            if path.parent == new_folder and not path.stat().st_size:
                handler.close()  # it opens the other file when there is something to write
                handler.baseFilename = str(folder / path.name)
                path.unlink()
    if [path.name for path in new_folder.iterdir()] == [".hydra"]:
        shutil.rmtree(new_folder)


def of_study(store: Store, study: str, config: Config, dataset: Dataset) -> Run | None:
    """Return the run of a study that is the same as `config`: finished, else one to resume."""
    digest = signature(config, dataset.fingerprint)
    runs = search(store, f"tags.{tag.SIGNATURE} = '{digest}' AND tags.{tag.PARENT} = '{study}'")
    finished = [run for run in runs if run.info.status == "FINISHED"]
    resumable = (run for run in runs if resume_blocker(run, config.output_dir) is None)
    return finished[0] if finished else next(resumable, None)


def in_folder_of(run: Run, config: Config) -> Config:
    """Return `config` with its paths in the folder of `run`."""
    return Config(**rebased(vars(config), config.output_dir, run.data.tags[tag.FOLDER]))
