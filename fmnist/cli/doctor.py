"""Checks of the tracking store, its artifacts and the data set, each with its fix."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from omegaconf import OmegaConf

from fmnist import PROJECT
from fmnist.common.errors import DataError, FmnistError, TrackingError, one_line
from fmnist.common.startup import environment_of_child, importing_tensorflow
from fmnist.data import download, idx_files
from fmnist.registry import commit
from fmnist.registry.decision_log import DecisionLog, all_decision_logs
from fmnist.runs import checkout, resume
from fmnist.tracking import moved_store, store_checks, tag
from fmnist.tracking.git import git_state
from fmnist.tracking.heartbeat import HEARTBEAT_TIMEOUT
from fmnist.tracking.retry import STORE_ERRORS
from fmnist.tracking.run_inputs import config_of_run
from fmnist.tracking.store import Run, Store, existing_store, search
from fmnist.tracking.store_checks import KILLED, RUNNING
from fmnist.tracking.store_uri import artifact_folder, existing_uri, reached, without_password

STRAY = "stray"  # folder among the artifacts, for those that belong to nothing


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, and what can be done."""

    problem: str
    remedy: str
    fix: Callable[[], object] | None = None  # it may return a text about what it did


def run_checks(fix: bool) -> bool:
    """Check everything, print and perhaps fix the findings; tell whether all is well in the end.

    Raises:
        TrackingError: if the store cannot be read.
    """
    print(f"code: {git_state().problem or 'good'}")  # not wrong: runs say so, too
    well = _report("data", data_findings(), fix) & _report("checkouts", checkout_findings(), fix)
    uri = existing_uri()
    at_first = {f"store {without_password(uri)}": schema_findings, "paths": moved_findings}
    for area, find in at_first.items():
        if not _report(area, find(uri), fix):
            print("fix this first: the rest of the store cannot be checked before")
            return False
    store = existing_store(None)
    store_findings = {
        "runs": run_findings(store),
        "decisions": decision_findings(),
        "models": model_findings(),
        "artifacts": artifact_findings(store),
    }
    for area, findings in store_findings.items():
        well &= _report(area, findings, fix)
    return well


def _report(area: str, findings: Iterable[Finding], fix: bool) -> bool:
    """Print the findings of one area, fix them if asked, and tell whether it is well now."""
    fixed = []
    for finding in findings:
        print(f"{area}: {finding.problem}\n    {finding.remedy}", flush=True)
        fixed.append(bool(fix and finding.fix and _is_fixed(finding.fix)))
    if not fixed:
        print(f"{area}: good")
    return all(fixed)


def _is_fixed(fix: Callable[[], object]) -> bool:
    try:
        result = fix()
    except (FmnistError, *STORE_ERRORS) as error:
        print(f"    could not be done: {one_line(error)}")
        return False
    print(f"    done: {result}" if isinstance(result, str) else "    done")
    return True


def schema_findings(uri: str) -> Iterator[Finding]:
    """Compare the database's version with MLflow's, before MLflow connects and migrates it."""
    if uri.startswith("http"):  # a server migrates its own
        return
    with reached(uri):
        here, there = store_checks.version_here(), store_checks.version_there(uri)
    if there in (here, None):
        return
    problem = f"made for MLflow's version {there}, but here is {here}"
    if store_checks.is_older(there):
        remedy = "MLflow migrates it when it connects; --fix does, and copies a SQLite file before"
        yield Finding(problem, remedy, partial(store_checks.migrate, uri))
    else:
        yield Finding(problem, "a newer MLflow made it: install that one, or choose another store")


def moved_findings(uri: str) -> Iterator[Finding]:
    """Find out whether a store in a file lay elsewhere when it recorded its artifacts."""
    with reached(uri):
        for former in moved_store.former_folders(uri):
            here = artifact_folder(uri)
            problem = f"its artifacts were in {former}, but the store is beside {here}"
            if here and here.is_dir():
                rewrite = partial(moved_store.rewrite_paths, uri, former)
                yield Finding(problem, f"--fix records that they are in {here}", rewrite)
            else:
                yield Finding(problem, "move or copy them there, too")


def data_findings() -> Iterator[Finding]:
    """Check the sums of the cached Fashion-MNIST, and find what a killed download left."""
    cache = download.cache_folder()
    if any(cache.glob("*-ubyte*")):
        try:
            idx_files.read_folder(cache, download.SUMS)
        except DataError as error:
            yield Finding(str(error), "--fix fetches it again", _fetch_again)
    for folder in cache.parent.glob(f"{download.SCRATCH}*"):
        if time.time() - folder.stat().st_mtime > HEARTBEAT_TIMEOUT:
            remove = partial(shutil.rmtree, folder)
            yield Finding(f"{folder}: left by a download", "--fix removes it", remove)


def _fetch_again() -> None:
    conf = OmegaConf.load(PROJECT / "conf" / "data" / "fashion_mnist.yaml")
    download.find_or_fetch(conf.url, conf.timeout)
    cache = download.cache_folder()
    try:
        idx_files.read_folder(cache, download.SUMS)
    except DataError:  # it was not replaced: there is a good copy elsewhere on this machine
        for name in idx_files.DIMENSIONS:
            (cache / name).unlink(missing_ok=True)
            (cache / f"{name}.gz").unlink(missing_ok=True)


def checkout_findings() -> Iterator[Finding]:
    """Find what a killed `reproduce --checkout` left."""
    for folder in checkout.abandoned():
        problem = f"{folder}: left by `reproduce --checkout`"
        yield Finding(problem, "--fix removes it", partial(checkout.remove, folder))


def run_findings(store: Store) -> Iterator[Finding]:
    """Find the runs that are RUNNING in the store while no process makes them."""
    for run in store_checks.interrupted_runs():
        yield _interrupted(store, run)


def _interrupted(store: Store, run: Run) -> Finding:
    run_id = run.info.run_id
    end = partial(store_checks.mark_killed, run_id)
    problem = f"run {run_id} ({run.info.run_name}): was interrupted"
    if reason := resume.resume_blocker(run):
        return Finding(problem, f"{reason}; --fix marks it {KILLED}", end)
    command = f"{store.variable}python train.py resume={run_id}"
    try:
        epochs, trained = _progress(store, run)
    except FmnistError as error:
        return Finding(problem, f"cannot resume: {one_line(error)}; --fix marks it {KILLED}", end)
    if trained:
        remedy = f"trained, but not all of it is in the store; --fix sends it, by {command}"
        return Finding(problem, remedy, partial(_resume, store, run_id))
    remedy = f"{command} resumes it; --fix marks it {KILLED}, and it can still be resumed"
    return Finding(f"{problem} after epoch {epochs}", remedy, end)


def _progress(store: Store, run: Run) -> tuple[int, bool]:
    """Return how many epochs are done, and whether none is left."""
    with importing_tensorflow():
        from fmnist.training.state import Snapshot  # TensorFlow takes seconds to import

    folder = run.data.tags[tag.FOLDER]
    snapshot = Snapshot.load(Path(folder), run.info.run_id)
    if snapshot is None:
        return 0, False
    epochs = config_of_run(run, folder, store.uri).training.epochs
    return snapshot.epochs, snapshot.stopped or snapshot.epochs >= epochs


def _resume(store: Store, run_id: str) -> None:
    command = [sys.executable, str(PROJECT / "train.py"), f"resume={run_id}"]
    environment = environment_of_child(MLFLOW_TRACKING_URI=store.uri)
    if subprocess.run(command, env=environment).returncode:
        raise TrackingError(f"run {run_id}: is not finished")


def decision_findings() -> Iterator[Finding]:
    """Find decisions that a killed promotion left half made."""
    for decision_log in all_decision_logs():
        yield from _findings_of_log(decision_log)


def _findings_of_log(decision_log: DecisionLog) -> Iterator[Finding]:
    committed = decision_log.run_ids()
    for run in search(Store("", decision_log.experiment_id), RUNNING):
        run_id, age = run.info.run_id, time.time() - run.info.start_time / 1000
        if age < HEARTBEAT_TIMEOUT:
            continue  # it may be under way
        if run_id in committed:
            apply = partial(commit.apply, decision_log)
            yield Finding(
                f"decision {run_id}: recorded, but not applied", "--fix applies it", apply
            )
        else:
            end = partial(store_checks.mark_killed, run_id)
            yield Finding(
                f"decision {run_id}: never recorded in the log", f"--fix marks it {KILLED}", end
            )


def model_findings() -> Iterator[Finding]:
    """Find models whose logging was cut short."""
    for model_id in store_checks.half_logged_models():
        delete = partial(store_checks.delete_model, model_id)
        yield Finding(f"model {model_id}: half logged", "--fix deletes it", delete)


def artifact_findings(store: Store) -> Iterator[Finding]:
    """Find folders of runs and models that the store does not know."""
    root, stray = store_checks.stray_artifacts(store.uri)
    if stray:
        names = ", ".join(folder.name for folder in stray[:3])
        more = ", ..." if len(stray) > 3 else ""
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
