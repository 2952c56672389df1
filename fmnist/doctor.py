"""What is wrong with a tracking store, its files and the data set, and how it is mended."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.entities import Experiment, LoggedModelStatus, Run, ViewType
from mlflow.exceptions import MlflowException
from omegaconf import OmegaConf

from fmnist import PROJECT, fetch, idx, registry, resumption, schema
from fmnist.errors import DataError, FmnistError, TrackingError, one_line
from fmnist.ledger import find_ledger
from fmnist.liveness import FOLDER_TAG, INTERRUPTED, SILENCE, status
from fmnist.recorded import config_of_run
from fmnist.store import (
    SWEEP_TAG,
    Store,
    existing_store,
    existing_uri,
    if_there,
    reached,
    without_password,
)
from fmnist.terminal import without_modules, without_start_up_notices

KILLED = "KILLED"
SHOWN = 3  # names of what is found in numbers
STRAY = "stray"  # folder among the artifacts, for those that belong to nothing


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, what can be done, and what mends it, if that can be had."""

    what: str
    remedy: str
    mend: Callable[[], object] | None = None


def visit(fix: bool) -> bool:
    """Look at everything, print what is found, and mend it if asked.

    Returns:
        Whether all is well, at the end.

    Raises:
        TrackingError: if the store cannot be read.
    """
    well = _told("data", of_data(), fix)
    uri = existing_uri()
    with reached(uri):
        outdated = list(of_schema(uri))
    if not _told(f"store {without_password(uri)}", outdated, fix):
        print("as long as this is so, the rest of the store is not looked at")
        return False
    store = existing_store(None)
    for area, examine in AREAS.items():
        well &= _told(area, examine(store), fix)
    return well


def _told(area: str, findings: Iterable[Finding], fix: bool) -> bool:
    """Print what was found in one area, and mend it if asked; return whether it is well now."""
    well = True
    for finding in findings:
        mended = False
        print(f"{area}: {finding.what}\n    {finding.remedy}")
        if fix and finding.mend:
            try:
                finding.mend()
                mended = True
                print("    mended")
            except (FmnistError, MlflowException, OSError) as error:
                print(f"    could not be mended: {one_line(error)}")
        well &= mended
    if well:
        print(f"{area}: good")
    return well


def of_schema(uri: str) -> Iterator[Finding]:
    """Compare the version of the store with that of MLflow here; does not connect MLflow to it."""
    here, there = schema.version_here(uri), schema.version_there(uri)
    if there == here or there is None:
        return
    what = f"made for MLflow's version {there}, but here is {here}"
    if uri.startswith("http"):
        yield Finding(what, f"if something fails: pip install mlflow=={there}")
    elif schema.is_older(there):
        remedy = "MLflow migrates it when it connects; --fix does, and copies a SQLite file before"
        yield Finding(what, remedy, partial(schema.migrate, uri))
    else:
        yield Finding(what, "a newer MLflow made it: install that one, or choose another store")


def of_data() -> Iterator[Finding]:
    """Check the sums of Keras's copy of Fashion-MNIST, and what a killed download left."""
    cache = fetch.cache_folder()
    if cache.is_dir():
        try:
            idx.read_folder(cache, fetch.SUMS)
        except DataError as error:
            yield Finding(str(error), "--fix fetches it anew", _fetch_anew)
    for folder in cache.parent.glob(f"{cache.name}-*"):
        if time.time() - folder.stat().st_mtime > SILENCE:
            remove = partial(shutil.rmtree, folder)
            yield Finding(f"{folder}: left by a download", "--fix removes it", remove)


def _fetch_anew() -> None:
    conf = OmegaConf.load(PROJECT / "conf" / "data" / "fashion_mnist.yaml")
    fetch.find_or_fetch(conf.url, conf.timeout)
    cache = fetch.cache_folder()
    try:
        idx.read_folder(cache, fetch.SUMS)
    except DataError:  # there is a good copy elsewhere on this machine
        shutil.rmtree(cache)


def of_runs(store: Store) -> Iterator[Finding]:
    """Find the runs that are RUNNING in the store while nothing runs."""
    for run in _search("attributes.status = 'RUNNING'"):
        if status(run) == INTERRUPTED:
            yield _interrupted(store, run)


def _interrupted(store: Store, run: Run) -> Finding:
    run_id = run.info.run_id
    end = partial(mlflow.MlflowClient().set_terminated, run_id, KILLED)
    what = f"run {run_id} ({run.info.run_name}): was interrupted"
    if SWEEP_TAG in run.data.tags:
        return Finding(
            what, f"its command, typed again, continues it; --fix makes it {KILLED}", end
        )
    if reason := resumption.why_not(run):
        return Finding(what, f"{reason}; --fix makes it {KILLED}", end)
    resume = f"python train.py resume={run_id}"
    epochs, trained = _progress(store, run)
    if trained:
        remedy = f"trained, but not all of it is in the store; --fix sends it, by {resume}"
        return Finding(what, remedy, partial(_resume, store, run_id))
    remedy = f"{resume} continues it; --fix makes it {KILLED}, which can be continued, too"
    return Finding(f"{what} after epoch {epochs}", remedy, end)


def _progress(store: Store, run: Run) -> tuple[int, bool]:
    """Return how many epochs of a run are done, and whether none is left."""
    with without_start_up_notices(), without_modules("matplotlib", "sklearn"):
        from fmnist.snapshot import Snapshot  # TensorFlow takes seconds to import

    folder = run.data.tags[FOLDER_TAG]
    kept = Snapshot.load(Path(folder), run.info.run_id)
    if kept is None:
        return 0, False
    epochs = config_of_run(run, folder, store.uri).training.epochs
    return kept.epochs, kept.stopped or kept.epochs >= epochs


def _resume(store: Store, run_id: str) -> None:
    command = [sys.executable, str(PROJECT / "train.py"), f"resume={run_id}"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": store.uri}
    if subprocess.run(command, env=environment).returncode:
        raise TrackingError(f"run {run_id}: is not finished")


def of_decisions(_: Store) -> Iterator[Finding]:
    """Find decisions that a killed promotion left half made."""
    ledger = find_ledger()
    if ledger is None:
        return
    taken = ledger.run_ids()
    for run in mlflow.search_runs([ledger.experiment_id], output_format="list"):
        run_id, age = run.info.run_id, time.time() - run.info.start_time / 1000
        if run.info.status != "RUNNING" or age < SILENCE:
            continue
        if run_id in taken:
            settle = partial(registry.settle, ledger)
            yield Finding(f"decision {run_id}: taken, not carried out", "--fix does it", settle)
        else:
            end = partial(mlflow.MlflowClient().set_terminated, run_id, KILLED)
            yield Finding(f"decision {run_id}: never taken", f"--fix makes it {KILLED}", end)


def of_models(_: Store) -> Iterator[Finding]:
    """Find models whose logging was cut short, of runs that have ended."""
    client = mlflow.MlflowClient()
    for experiment in _experiments(ViewType.ACTIVE_ONLY):
        for model in client.search_logged_models([experiment.experiment_id]):
            run = if_there(mlflow.get_run, model.source_run_id)
            ended = run is None or run.info.status != "RUNNING"
            if model.status == LoggedModelStatus.PENDING and ended:
                delete = partial(client.delete_logged_model, model.model_id)
                yield Finding(f"model {model.model_id}: half logged", "--fix deletes it", delete)


def of_artifacts(_: Store) -> Iterator[Finding]:
    """Find folders among the store's artifacts that belong to none of its runs and models."""
    experiments = _experiments(ViewType.ALL)
    known = {run.info.run_id for run in _search("", experiments, ViewType.ALL)}
    for location in sorted({str(one.artifact_location) for one in experiments}):
        parts = urlsplit(location)
        root = Path(unquote(parts.path))
        if parts.scheme not in ("", "file") or not root.is_dir():
            continue
        stray = [
            folder for folder in root.iterdir() if folder.name not in {*known, "models", STRAY}
        ]
        stray += [folder for folder in (root / "models").glob("*") if _is_no_model(folder.name)]
        if stray:
            names = ", ".join(folder.name for folder in stray[:SHOWN])
            more = f" and {len(stray) - SHOWN} more" if len(stray) > SHOWN else ""
            aside = root / STRAY
            yield Finding(
                f"{root}: {len(stray)} of no run of this store: {names}{more}",
                f"if no other store uses this folder: --fix moves them to {aside}",
                partial(_move, stray, root, aside),
            )


def _is_no_model(name: str) -> bool:
    return if_there(mlflow.MlflowClient().get_logged_model, name) is None


def _move(folders: Sequence[Path], root: Path, aside: Path) -> None:
    for folder in folders:
        target = aside / folder.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, target)


def _experiments(view: int) -> list[Experiment]:
    return list(mlflow.MlflowClient().search_experiments(view_type=view))


def _search(
    condition: str,
    experiments: Sequence[Experiment] | None = None,
    view: int = ViewType.ACTIVE_ONLY,
) -> list[Run]:
    if experiments is None:
        experiments = _experiments(ViewType.ACTIVE_ONLY)
    runs: list[Run] = mlflow.search_runs(
        [one.experiment_id for one in experiments],
        filter_string=condition,
        run_view_type=view,
        output_format="list",
    )
    return runs


AREAS = {
    "runs": of_runs,
    "decisions": of_decisions,
    "models": of_models,
    "artifacts": of_artifacts,
}
