"""What is wrong with a tracking store, its files and the data set, and how it is mended."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlflow
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from omegaconf import OmegaConf

from fmnist import PROJECT
from fmnist.common.errors import DataError, FmnistError, TrackingError, one_line
from fmnist.common.exits import environment_of_child
from fmnist.common.startup import importing_tensorflow
from fmnist.data import download, idx_files
from fmnist.registry import commit
from fmnist.registry.decision_log import find_decision_log
from fmnist.runs import checkout, resume
from fmnist.tracking import database
from fmnist.tracking.heartbeat import HEARTBEAT_TIMEOUT, INTERRUPTED, status
from fmnist.tracking.run_config import config_of_run
from fmnist.tracking.store import Store, existing_store, if_there, search
from fmnist.tracking.store_uri import artifact_folder, existing_uri, reached, without_password
from fmnist.tracking.tags import FOLDER_TAG

KILLED = "KILLED"
RUNNING = "attributes.status = 'RUNNING'"
RUN_ID, MODEL_ID = re.compile("[0-9a-f]{32}"), re.compile("m-[0-9a-f]{32}")
SHOWN = 3  # names of what is found in numbers
STRAY = "stray"  # folder among the artifacts, for those that belong to nothing


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, what can be done, and what mends it, if that can be had."""

    what: str
    remedy: str
    fix: Callable[[], object] | None = None


def run_checks(fix: bool) -> bool:
    """Look at everything, print what is found, and mend it if asked.

    Returns:
        Whether all is well, at the end.

    Raises:
        TrackingError: if the store cannot be read.
    """
    well = _told("data", of_data(), fix) & _told("checkouts", of_checkouts(), fix)
    uri = existing_uri()
    outdated = []
    if not uri.startswith("http"):  # a server sees to its own
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
    well, found = True, False
    for finding in findings:
        mended, found = False, True
        print(f"{area}: {finding.what}\n    {finding.remedy}", flush=True)
        if fix and finding.fix:
            try:
                said = finding.fix()
                mended = True
                print(f"    done{f': {said}' if isinstance(said, str) else ''}")
            except (FmnistError, MlflowException, OSError) as error:
                print(f"    could not be done: {one_line(error)}")
        well &= mended
    if not found:
        print(f"{area}: good")
    return well


def of_schema(uri: str) -> Iterator[Finding]:
    """Compare the version of the store with that of MLflow here; does not connect MLflow to it."""
    here, there = database.version_here(), database.version_there(uri)
    if there == here or there is None:
        return
    what = f"made for MLflow's version {there}, but here is {here}"
    if database.is_older(there):
        remedy = "MLflow migrates it when it connects; --fix does, and copies a SQLite file before"
        yield Finding(what, remedy, partial(database.migrate, uri))
    else:
        yield Finding(what, "a newer MLflow made it: install that one, or choose another store")


def of_data() -> Iterator[Finding]:
    """Check the sums of Keras's copy of Fashion-MNIST, and what a killed download left."""
    cache = download.cache_folder()
    if any(cache.glob("*-ubyte*")):
        try:
            idx_files.read_folder(cache, download.SUMS)
        except DataError as error:
            yield Finding(str(error), "--fix fetches it anew", _fetch_anew)
    for folder in cache.parent.glob(f"{download.SCRATCH}*"):
        if time.time() - folder.stat().st_mtime > HEARTBEAT_TIMEOUT:
            remove = partial(shutil.rmtree, folder)
            yield Finding(f"{folder}: left by a download", "--fix removes it", remove)


def _fetch_anew() -> None:
    conf = OmegaConf.load(PROJECT / "conf" / "data" / "fashion_mnist.yaml")
    download.find_or_fetch(conf.url, conf.timeout)
    cache = download.cache_folder()
    try:
        idx_files.read_folder(cache, download.SUMS)
    except DataError:  # there is a good copy elsewhere on this machine
        for name in idx_files.DIMENSIONS:
            for path in (cache / name, cache / f"{name}.gz"):
                path.unlink(missing_ok=True)


def of_checkouts() -> Iterator[Finding]:
    """Find what a killed `reproduce --checkout` left."""
    for folder in checkout.abandoned():
        remove = partial(checkout.remove, folder)
        yield Finding(f"{folder}: left by `reproduce --checkout`", "--fix removes it", remove)


def of_runs(store: Store) -> Iterator[Finding]:
    """Find the runs that are RUNNING in the store while nothing runs."""
    for run in mlflow.search_runs(_experiments(), filter_string=RUNNING, output_format="list"):
        if status(run) == INTERRUPTED:
            yield _interrupted(store, run)


def _interrupted(store: Store, run: Run) -> Finding:
    run_id = run.info.run_id
    end = partial(mlflow.MlflowClient().set_terminated, run_id, KILLED)
    what = f"run {run_id} ({run.info.run_name}): was interrupted"
    if reason := resume.resume_blocker(run):
        return Finding(what, f"{reason}; --fix makes it {KILLED}", end)
    command = f"{store.variable}python train.py resume={run_id}"
    try:
        epochs, trained = _progress(store, run)
    except FmnistError as error:
        return Finding(what, f"cannot go on: {one_line(error)}; --fix makes it {KILLED}", end)
    if trained:
        remedy = f"trained, but not all of it is in the store; --fix sends it, by {command}"
        return Finding(what, remedy, partial(_resume, store, run_id))
    remedy = f"{command} continues it; --fix makes it {KILLED}, which can be continued, too"
    return Finding(f"{what} after epoch {epochs}", remedy, end)


def _progress(store: Store, run: Run) -> tuple[int, bool]:
    """Return how many epochs of a run are done, and whether none is left."""
    with importing_tensorflow():
        from fmnist.training.state import Snapshot  # TensorFlow takes seconds to import

    folder = run.data.tags[FOLDER_TAG]
    kept = Snapshot.load(Path(folder), run.info.run_id)
    if kept is None:
        return 0, False
    epochs = config_of_run(run, folder, store.uri).training.epochs
    return kept.epochs, kept.stopped or kept.epochs >= epochs


def _resume(store: Store, run_id: str) -> None:
    command = [sys.executable, str(PROJECT / "train.py"), f"resume={run_id}"]
    environment = environment_of_child(MLFLOW_TRACKING_URI=store.uri)
    if subprocess.run(command, env=environment).returncode:
        raise TrackingError(f"run {run_id}: is not finished")


def of_decisions(_: Store) -> Iterator[Finding]:
    """Find decisions that a killed promotion left half made."""
    decision_log = find_decision_log()
    if decision_log is None:
        return
    taken = decision_log.run_ids()
    for run in search(Store("", decision_log.experiment_id), RUNNING):
        run_id, age = run.info.run_id, time.time() - run.info.start_time / 1000
        if age < HEARTBEAT_TIMEOUT:
            continue
        if run_id in taken:
            carry_out = partial(commit.apply, decision_log)
            yield Finding(f"decision {run_id}: taken, not carried out", "--fix does it", carry_out)
        else:
            end = partial(mlflow.MlflowClient().set_terminated, run_id, KILLED)
            yield Finding(f"decision {run_id}: never taken", f"--fix makes it {KILLED}", end)


def of_models(_: Store) -> Iterator[Finding]:
    """Find models whose logging was cut short, of runs that have ended."""
    client = mlflow.MlflowClient()
    for model in _models(client):
        if model.status != LoggedModelStatus.PENDING or not model.source_run_id:
            continue  # MLflow's filter knows no status
        run = if_there(mlflow.get_run, model.source_run_id)
        if run and run.info.status != "RUNNING":
            delete = partial(client.delete_logged_model, model.model_id)
            yield Finding(f"model {model.model_id}: half logged", "--fix deletes it", delete)


def _models(client: mlflow.MlflowClient) -> Iterator[LoggedModel]:
    """Yield all models, a page after the other: one page is all that a search returns."""
    experiments = _experiments()
    page = client.search_logged_models(experiments)
    yield from page
    while page.token:
        page = client.search_logged_models(experiments, page_token=page.token)
        yield from page


def of_artifacts(store: Store) -> Iterator[Finding]:
    """Find folders of runs and models, among those that we lay, that the store does not know.

    Nothing is believed of the store's own words on where artifacts are.
    """
    root = artifact_folder(store.uri)
    if root is None:
        return
    client = mlflow.MlflowClient()
    kinds = ((root, RUN_ID, mlflow.get_run), (root / "models", MODEL_ID, client.get_logged_model))
    stray = [
        folder
        for place, shape, look_up in kinds
        for folder in place.glob("*")
        if shape.fullmatch(folder.name) and if_there(look_up, folder.name) is None
    ]
    if stray:
        names = ", ".join(folder.name for folder in stray[:SHOWN])
        more = f" and {len(stray) - SHOWN} more" if len(stray) > SHOWN else ""
        yield Finding(
            f"{root}: {len(stray)} of no run of this store: {names}{more}",
            f"if no other store uses this folder: --fix moves them to {root / STRAY}",
            partial(_move, stray, root),
        )


def _move(folders: Sequence[Path], root: Path) -> None:
    for folder in folders:
        target = root / STRAY / folder.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, target)


def _experiments() -> list[str]:
    return [one.experiment_id for one in mlflow.MlflowClient().search_experiments()]


AREAS = {
    "runs": of_runs,
    "decisions": of_decisions,
    "models": of_models,
    "artifacts": of_artifacts,
}
