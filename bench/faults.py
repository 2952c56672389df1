"""Try each fault that a run has to survive, for real, and count what is lost.

    python bench/faults.py                         some 25 minutes on two processors
    python bench/faults.py --kills 4 --only kill   for a first idea

Real processes of `python train.py` on small digits, with dropout, Adam and an early stopping that
fires, in real stores; they are killed at random and at chosen moments, their server is stopped,
their disk filled, their database locked, their clock set back. Each is then continued by `resume=`
and compared with a run that nothing befell: digests, metrics, artifacts, model. Prints a line a
trial and a table at the end; exits with 1 if anything was lost. Faults that need root or
`faketime` are "not tried" without. What went wrong is kept below outputs/faults/.
"""

import argparse
import gzip
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from trials import (
    ASKED,
    ENVIRONMENT,
    PROJECT,
    SIZED,
    Process,
    Record,
    Trial,
    copied_project,
    fill,
    free_port,
    lost,
    rows,
    server,
    tmpfs,
)

sys.path.insert(0, str(PROJECT))

from fmnist.fetch import cache_folder
from fmnist.idx import DIMENSIONS
from fmnist.terminal import table

ENGINES = ("compiled", "keras")
SEED = 7
OUTAGE = 30.0  # seconds
STOPPED_AT = 3  # epochs
CHOSEN = (  # function, its call, and whether the process dies before or after it
    ("zipfile:ZipFile.writestr", 4, "before"),  # half a checkpoint is written
    ("fmnist.files:os.fsync", 5, "before"),  # a checkpoint is whole, but not in its place
    ("pathlib:Path.replace", 5, "after"),  # between checkpoint and snapshot
    ("numpy.lib.format:write_array", 150, "before"),  # half a snapshot is written
    ("pathlib:Path.replace", 6, "after"),  # between snapshot and report
    ("mlflow:MlflowClient.log_batch", 3, "after"),  # reported, but nobody was told
    ("mlflow:MlflowClient.log_image", 3, "before"),  # between the table of layer health and picture
    ("PIL.Image:Image.save", 4, "after"),  # between a picture and its preview
    ("mlflow:MlflowClient._create_logged_model", 1, "after"),  # a model that belongs to no run yet
    ("mlflow:MlflowClient.log_outputs", 1, "after"),  # an empty model
    ("mlflow:MlflowClient.log_model_artifacts", 1, "before"),
    ("shutil:copy2", 2, "after"),  # half of what a run is to know of its inputs
    ("fmnist.tracking:log_predictions", 1, "before"),
    ("mlflow:log_figure", 2, "before"),
    ("mlflow:MlflowClient.set_terminated", 1, "before"),  # all is there but the status
)


class NotTriedError(Exception):
    """This machine or this user cannot try a fault; says what it needs."""


@dataclass
class Bench:
    """Where the trials run, and what uninterrupted runs of both engines left.

    Attributes:
        folder: of all trials.
        kills: how many at random moments.
        references: by engine.
        seconds: that the references took after they had begun.
    """

    folder: Path
    kills: int
    references: dict[str, Record] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        """A copy of the project: a change of it in the meantime shall not refuse to resume."""
        return self.folder / "project"

    @property
    def database(self) -> Path:
        """The store that most trials share."""
        return self.folder / "mlflow.db"

    def trial(self, name: str, engine: str = ENGINES[0], alone: bool = False) -> Trial:
        """Prepare a run in a folder of its own, in the shared store or in one of its own."""
        folder = self.folder / name
        folder.mkdir()
        database = folder / "mlflow.db" if alone else self.database
        return Trial(folder, database, self.project, (*ASKED, f"training.engine={engine}"))

    def refer(self) -> None:
        """Run both engines without a fault."""
        for engine in ENGINES:
            trial = self.trial(f"reference-{engine}", engine)
            process = trial.start()
            process.until(lambda trial=trial: trial.run_id)
            began = time.monotonic()
            if process.wait():
                sys.exit(process.errors)
            self.seconds[engine] = time.monotonic() - began
            self.references[engine] = Record.of(trial)
            if problems := lost(self.references[engine], self.references[engine]):
                sys.exit(f"{trial.folder}: {'; '.join(problems)}")

    def lost(self, trial: Trial, engine: str = ENGINES[0], served: Path | None = None) -> list[str]:
        """Go on with a run that was stopped unless it is finished; say what was lost."""
        if Record.of(trial, served).status != "FINISHED":
            done, process = trial.trained, trial.resume()
            if process.wait():
                return [f"does not go on: {process.errors.strip()[-300:]}"]
            if not any(f"after epoch {n} of" in process.output for n in (done, done + 1)):
                return [f"{done} epochs were done, but: {process.output.splitlines()[1:2]}"]
        return lost(Record.of(trial, served), self.references[engine])


@dataclass
class Outcome:
    """What came of a fault: how often it was tried, and what was lost."""

    tried: int = 0
    lost: list[str] = field(default_factory=list)
    remark: str = ""

    def add(self, name: str, problems: list[str], remark: str = "") -> None:
        """Count one trial and print its line."""
        self.tried += 1
        self.lost += [f"{name}: {problem}" for problem in problems]
        said = "; ".join(problems[:5]) or f"nothing lost{remark and f' ({remark})'}"
        print(f"  {name}: {said}", flush=True)


def kill_at_random(bench: Bench) -> Outcome:
    """Kill runs of both engines at random moments, some of them again while they go on."""
    outcome, draw = Outcome(), random.Random(SEED)
    finished = 0

    def one(number: int, moments: Sequence[float]) -> tuple[str, list[str], str]:
        engine = ENGINES[number % 2]
        trial = bench.trial(f"kill-{number}", engine)
        process = trial.start()
        process.until(lambda: trial.run_id)
        return f"kill {number} ({engine})", *killed(bench, trial, process, engine, moments)

    numbers = iter(range(10 * bench.kills))
    with ThreadPoolExecutor(2) as pool:
        while outcome.tried < bench.kills:
            asked = [
                (n, [draw.random(), draw.random()][: 1 + (n % 5 == 4)])
                for n, _ in zip(numbers, range(min(8, bench.kills - outcome.tried)), strict=False)
            ]
            for name, problems, remark in pool.map(lambda pair: one(*pair), asked):
                if remark == "finished before":
                    finished += 1
                else:
                    outcome.add(name, problems, remark)
    outcome.remark = f"{finished} more had finished before the kill" if finished else ""
    return outcome


def killed(
    bench: Bench, trial: Trial, process: Process, engine: str, moments: Sequence[float]
) -> tuple[list[str], str]:
    """Kill a run at moments between 0, its begin, and 1, its end; say what was lost, and when."""
    times = []
    for moment in moments:
        if times:  # it goes on, which begins with some seconds of start-up
            if Record.of(trial).status == "FINISHED":
                break
            process = trial.resume()
            resumed = partial(lambda process: "goes on after" in process.output, process)
            process.until(resumed)
        time.sleep(moment * (bench.seconds[engine] + 0.3))
        if not process.alive:
            if process.popen.returncode:
                return [process.errors.strip()[-300:]], ""
            break
        process.kill()
        times.append(f"{process.epochs} epochs done")
    if not times:
        return [], "finished before"
    problems = bench.lost(trial, engine)
    began = "was stopped before training began" in str(problems) and trial.trained == 0
    return ([], "before its inputs were known") if began else (problems, ", then ".join(times))


def kill_within(bench: Bench) -> Outcome:
    """Kill runs of both engines within chosen calls: half a file, half a model, half a report."""
    outcome = Outcome()

    def one(number: int) -> tuple[str, list[str]]:
        (where, call, when), engine = CHOSEN[number // 2], ENGINES[number % 2]
        trial = bench.trial(f"within-{number}", engine)
        script = [sys.executable, f"{PROJECT}/bench/killed.py", where, str(call), when]
        ended = trial.start(before=script).wait()
        if ended != -signal.SIGKILL:
            return f"{when} {where} {call} ({engine})", [f"was not killed, but ended with {ended}"]
        return f"{when} {where} {call} ({engine})", bench.lost(trial, engine)

    with ThreadPoolExecutor(2) as pool:
        for name, problems in pool.map(one, range(2 * len(CHOSEN))):
            outcome.add(name, problems)
    return outcome


def served_trial(bench: Bench, name: str, port: int, *asked: str) -> Trial:
    """Prepare a run that is tracked by a server on a port."""
    trial = bench.trial(name, alone=True)
    trial.uri, trial.asked = f"http://127.0.0.1:{port}", (*trial.asked, *asked)
    return trial


def server_away(bench: Bench) -> Outcome:
    """Let the tracking server be silent, or dead, for a while in mid-training."""
    outcome = Outcome()
    for how in (signal.SIGSTOP, signal.SIGKILL):
        port, name = free_port(), f"server {how.name}"
        trial = served_trial(bench, f"server-{how.name}", port)
        with server(trial.folder, port) as running:
            process = trial.start()
            process.until(lambda process=process: process.epochs >= STOPPED_AT)
            running.send(how)
            running.popen.wait() if how == signal.SIGKILL else None
            process.until(lambda process=process: "| best" in process.output, OUTAGE)
            time.sleep(OUTAGE)
            trained = process.alive and "| best" in process.output
            problems = [] if trained else ["did not train on"]
            if how == signal.SIGSTOP:
                running.send(signal.SIGCONT)
                problems += [] if process.wait() == 0 else [process.errors.strip()[-300:]]
            else:
                with server(trial.folder, port):
                    problems += [] if process.wait() == 0 else [process.errors.strip()[-300:]]
            told = (process.output + process.errors).count("does not answer")
            problems += [] if told == 1 else [f"told {told} times"]
            outcome.add(name, problems + bench.lost(trial, served=trial.folder / "artifacts"))
    return outcome


def server_never_back(bench: Bench) -> Outcome:
    """Let the tracking server die in mid-training; `resume` sends all when there is another."""
    outcome, port = Outcome(), free_port()
    trial = served_trial(bench, "server-never-back", port, "tracking.patience=5")
    with server(trial.folder, port):
        process = trial.start()
        process.until(lambda: process.epochs >= STOPPED_AT)
    problems = []
    if process.wait() != 1 or f"resume={trial.run_id}" not in one_error(process):
        problems = [f"ended with {process.popen.returncode}: {process.errors[-300:]}"]
    with server(trial.folder, port):
        problems += bench.lost(trial, served=trial.folder / "artifacts")
        problems += ["trained again"] if trial.processes[-1].epochs else []
    outcome.add("server never back", problems)
    return outcome


def one_error(process: Process) -> str:
    """Return the one line that a process said on standard error; nothing if there are others."""
    lines = process.errors.splitlines()
    return lines[0] if len(lines) == 1 and lines[0].startswith("error: ") else ""


def disk_full(bench: Bench) -> Outcome:
    """Fill the disk of the output in mid-training; go on when there is room again."""
    outcome = Outcome()
    for engine in ENGINES:
        trial = bench.trial(f"disk-{engine}", engine)
        with small_disk(trial.folder / "disk") as disk:
            trial.output = disk
            process = trial.start()
            process.until(lambda process=process: process.epochs >= STOPPED_AT)
            process.send(signal.SIGSTOP)
            filler = fill(disk)
            process.send(signal.SIGCONT)
            ended, problems = process.wait(), []
            if ended != 1 or "No space left" not in one_error(process):
                problems = [f"ended with {ended}: {process.errors[-600:]}"]
            problems += loadable(disk / "output0" / "best.keras")
            filler.unlink()
            outcome.add(f"disk full ({engine})", problems + bench.lost(trial, engine))
    return outcome


def store_disk_full(bench: Bench) -> Outcome:
    """Fill the disk of the store in mid-training, and make room after a while."""
    outcome, trial = Outcome(), bench.trial("store-disk")
    with small_disk(trial.folder / "disk") as disk:
        trial.database = disk / "mlflow.db"
        process = trial.start()
        process.until(lambda: process.epochs >= STOPPED_AT)
        process.send(signal.SIGSTOP)
        filler = fill(disk)
        process.send(signal.SIGCONT)
        process.until(lambda: "| best" in process.output)
        time.sleep(5)
        filler.unlink()
        problems = [] if process.wait() == 0 else [process.errors[-600:]]
        outcome.add("disk of the store full", problems + bench.lost(trial))
    return outcome


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk that is soon full.

    Raises:
        NotTriedError: if this user may not.
    """
    try:
        with tmpfs(folder, megabytes=32) as disk:
            yield disk
    except PermissionError as error:
        raise NotTriedError("needs root, to mount a small disk") from error


def loadable(checkpoint: Path) -> list[str]:
    """Say what is wrong with a checkpoint."""
    import keras

    try:
        keras.saving.load_model(checkpoint)
    except (OSError, ValueError) as error:
        return [f"{checkpoint.name} does not load: {error}"]
    return []


DATA = ("data=fashion_mnist", "model.depth=2", "training.epochs=1", "callbacks=none")


def damaged_data(bench: Bench) -> Outcome:
    """Cut, replace and keep replacing the cached data; it is fetched anew, or told in one line."""
    if not (cache_folder() / "train-images-idx3-ubyte.gz").exists():
        raise NotTriedError("needs Fashion-MNIST in Keras's cache")
    outcome = Outcome()
    with http_server(cache_folder()) as url:
        good = data_trial(bench, "good", url, lambda folder: None)
        for damage in (cut_short, exchanged, meanwhile_cut):
            trial = data_trial(bench, damage.__name__, url, damage)
            same = fingerprint(trial) == fingerprint(good) and not trial.processes[0].popen.poll()
            outcome.add(f"data {damage.__name__}", [] if same else ["was not fetched anew"])
            trial = data_trial(bench, f"{damage.__name__}-offline", "http://127.0.0.1:9", damage)
            told = "nowhere to be had" in trial.processes[0].errors.splitlines()[-1]
            fine = fingerprint(trial) == fingerprint(good) or (told and not trial.run_id)
            outcome.add(f"data {damage.__name__}, offline", [] if fine else ["no clear error"])
    return outcome


def data_trial(bench: Bench, name: str, url: str, damage: Callable[[Path], object]) -> Trial:
    """Train on cached data that something happens to; the trial is over."""
    trial = bench.trial(f"data-{name}")
    folder = trial.folder / "keras" / "datasets" / "fashion-mnist"
    shutil.copytree(cache_folder(), folder)
    trial.asked = (*DATA, f"data.url={url}")
    trial.variables = {"KERAS_HOME": str(trial.folder / "keras"), "PATH": ""}  # no apt-get
    damage(folder)
    process = trial.start()
    if damage is meanwhile_cut:
        process.until(lambda: not process.alive or cut_and_mended(folder))
    process.wait()
    return trial


def cut_short(folder: Path) -> None:
    """Cut a file."""
    path = folder / "train-images-idx3-ubyte.gz"
    os.truncate(path, path.stat().st_size // 2)


def exchanged(folder: Path) -> None:
    """Put good labels in the place of others, in a file that is whole."""
    path = folder / "t10k-labels-idx1-ubyte.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:8] + content[:7:-1]))


def meanwhile_cut(folder: Path) -> None:
    """Nothing as yet: it is cut while the run reads it."""


def cut_and_mended(folder: Path) -> None:
    """Cut a file that may be read at this moment, and put the whole one back."""
    for name in ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        path = folder / name
        if path.exists():
            whole = (cache_folder() / name).read_bytes()
            os.truncate(path, 1000)
            path.write_bytes(whole)


def fingerprint(trial: Trial) -> str | None:
    """Return that of the data on which a run trained; None if none did."""
    return Record.of(trial).tags["data.fingerprint"] if trial.run_id else None


@contextmanager
def http_server(folder: Path) -> Iterator[str]:
    """Serve the files of a folder; yield the address."""
    handler = partial(QuietHandler, directory=str(folder))
    files = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=files.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{files.server_port}"
    files.shutdown()
    files.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    """Say nothing."""

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def four_at_once(bench: Bench) -> Outcome:
    """Let four processes fetch the data and set up a new store at the same time."""
    if not (cache_folder() / "train-images-idx3-ubyte.gz").exists():
        raise NotTriedError("needs Fashion-MNIST in Keras's cache, to serve it")
    outcome, common = Outcome(), bench.folder / "at-once.db"
    with http_server(cache_folder()) as url:
        trials = [bench.trial(f"at-once-{number}") for number in range(4)]
        for trial in trials:
            trial.database, trial.asked = common, (*DATA, f"data.url={url}")
            trial.variables = {"KERAS_HOME": str(bench.folder / "keras"), "PATH": ""}
        processes = [trial.start() for trial in trials]
        problems = [p.errors[-300:] for p in processes if p.wait()]
    finished = rows(common, "SELECT run_uuid FROM runs WHERE status = 'FINISHED'")
    problems += [] if len(finished) == 4 else [f"{len(finished)} of 4 runs in the store"]
    cached = {path.name for path in (bench.folder / "keras/datasets/fashion-mnist").iterdir()}
    problems += [] if cached == {f"{n}.gz" for n in DIMENSIONS} else [f"the cache has {cached}"]
    outcome.add("four at once", problems)
    return outcome


def read_only_project(bench: Bench) -> Outcome:
    """Run a copy of the project that cannot be written to; with places elsewhere, and without."""
    outcome, trial = Outcome(), bench.trial("read-only", alone=True)
    copy = bench.project
    mounted = f"mount --bind {copy} {copy} && mount -o remount,bind,ro {copy} && cd {copy}"
    inside = ["unshare", "-m", "sh", "-c", f'{mounted} && exec "$0" "$@"', sys.executable]
    if subprocess.run([*inside, "-c", ""], capture_output=True).returncode:
        raise NotTriedError("needs root, to mount it read-only")
    ended = trial.start(before=inside).wait()
    problems = [] if ended == 0 else [trial.processes[0].errors[-300:]]
    outcome.add("read-only, places elsewhere", problems + bench.lost(trial))
    for place in (f"hydra.run.dir={trial.folder}/elsewhere", f"tracking.uri={trial.sqlite}"):
        process = Process([*inside, "train.py", *ASKED, place], trial.folder / place[:5], copy)
        ended, remedy = process.wait(), "tracking.uri=" if "hydra" in place else "hydra.run.dir="
        told = ended == 1 and remedy in one_error(process)
        problems = [] if told else [f"no error with a remedy: {process.errors[-300:]}"]
        outcome.add(f"read-only, only {place.partition('=')[0]} elsewhere", problems)
    return outcome


def locked_database(bench: Bench) -> Outcome:
    """Lock the SQLite database in mid-training for longer than anybody waits at once."""
    outcome, trial = Outcome(), bench.trial("locked", alone=True)
    process = trial.start()
    process.until(lambda: process.epochs >= STOPPED_AT)
    with closing(sqlite3.connect(trial.database, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        process.until(lambda: "| best" in process.output)
        time.sleep(OUTAGE)
    problems = [] if process.wait() == 0 else [process.errors[-600:]]
    told = (process.output + process.errors).count("does not answer")
    problems += [] if told == 1 else [f"told {told} times"]
    outcome.add("database locked", problems + bench.lost(trial))
    return outcome


def interrupted_twice(bench: Bench) -> Outcome:
    """Press Ctrl-C twice."""
    outcome, draw = Outcome(), random.Random(SEED)
    for number in range(8):
        engine = ENGINES[number % 2]
        trial = bench.trial(f"interrupt-{number}", engine)
        process = trial.start()
        process.until(lambda process=process: process.epochs)
        time.sleep(draw.random() * bench.seconds[engine] * 0.6)
        process.send(signal.SIGINT)
        time.sleep(0.2)
        process.send(signal.SIGINT)
        ended = process.wait(30)
        told = f"stopped by SIGINT; it goes on by: python train.py resume={trial.run_id}"
        lines, problems = process.errors.splitlines(), []
        if ended == 0:
            outcome.add(f"Ctrl-C twice, {number}", [], "finished before")
            continue
        if ended != 128 + signal.SIGINT or [line.partition(" goes")[0] for line in lines] != [
            told.partition(" goes")[0]
        ]:
            problems = [f"ended with {ended}: {process.errors[-600:]}"]
        status = Record.of(trial).status
        outcome.add(f"Ctrl-C twice, {number}", problems + bench.lost(trial, engine), status)
    return outcome


def clock_set_back(bench: Bench) -> Outcome:
    """Set the clock back by a day in mid-training; one run is killed as well."""
    [library] = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")] or [None]
    if library is None:
        raise NotTriedError("needs faketime")
    outcome = Outcome()
    for then in ("trained on", "killed"):
        trial = bench.trial(f"clock-{then.replace(' ', '-')}")
        clock = trial.folder / "clock"
        clock.write_text("+0d\n")
        trial.variables = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        process = trial.start()
        process.until(lambda process=process: process.epochs >= STOPPED_AT)
        clock.write_text("-1d\n")
        if then == "killed":
            time.sleep(0.3)
            process.kill()
            problems = []
        else:
            problems = [] if process.wait() == 0 else [process.errors[-600:]]
        outcome.add(f"clock set back, {then}", problems + bench.lost(trial))
    return outcome


def diverged(bench: Bench) -> Outcome:
    """Let the loss become NaN."""
    outcome, trial = Outcome(), bench.trial("diverged")
    trial.asked = (*SIZED, "optimizer.learning_rate=1e10")
    process = trial.start()
    told = process.wait() == 1 and "training diverged" in one_error(process)
    record = Record.of(trial)
    problems = [] if told else [process.errors[-600:]]
    problems += [] if record.status == "FAILED" else [f"is {record.status}"]
    problems += ["a model was logged"] if record.models else []
    outcome.add("NaN", problems)
    return outcome


FAULTS: dict[str, tuple[str, Callable[[Bench], Outcome]]] = {
    "kill": ("SIGKILL at a random moment", kill_at_random),
    "within": ("SIGKILL within a write or a request", kill_within),
    "server": (f"tracking server silent, or dead, for {OUTAGE:.0f} s", server_away),
    "never": ("tracking server never back", server_never_back),
    "disk": ("disk of the output full", disk_full),
    "store": ("disk of the store full for a while", store_disk_full),
    "data": ("data cut short or exchanged", damaged_data),
    "four": ("four processes fetch, and set up a store", four_at_once),
    "read_only": ("project folder read-only", read_only_project),
    "locked": (f"SQLite locked for {OUTAGE:.0f} s", locked_database),
    "interrupt": ("Ctrl-C twice", interrupted_twice),
    "clock": ("clock set back by a day", clock_set_back),
    "nan": ("loss becomes NaN", diverged),
}


def main() -> None:
    """Try the faults and print the table."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--kills", type=int, default=50, help="at random moments (50)")
    parser.add_argument("--only", default="", help=f"of {','.join(FAULTS)}")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(FAULTS)
    if unknown := set(chosen) - FAULTS.keys():
        parser.error(f"--only {','.join(unknown)}: choose from {', '.join(FAULTS)}")
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    folder = PROJECT / "outputs" / "faults" / time.strftime("%Y-%m-%d_%H-%M-%S")
    folder.mkdir(parents=True)
    began, bench = time.monotonic(), Bench(folder, options.kills)
    copied_project(bench.project)
    bench.refer()
    outcomes = {name: tried(bench, *FAULTS[name]) for name in chosen}
    cells = [[FAULTS[name][0], *cells_of(outcome)] for name, outcome in outcomes.items()]
    print(table(["fault", "times tried", "lost", "verdict"], cells))
    print(f"\n{time.monotonic() - began:.0f} s")
    if any(outcome.lost for outcome in outcomes.values()):
        sys.exit(f"what was lost is in {folder}")
    shutil.rmtree(folder)


def tried(bench: Bench, title: str, fault: Callable[[Bench], Outcome]) -> Outcome:
    """Try one fault."""
    print(title, flush=True)
    try:
        return fault(bench)
    except NotTriedError as needs:
        print(f"  not tried: {needs}")
        return Outcome(remark=f"not tried: {needs}")
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        print(f"  {error}")
        return Outcome(1, [f"hangs: {error}"])


def cells_of(outcome: Outcome) -> list[object]:
    """Return the last cells of a row of the table."""
    if not outcome.tried:
        return [0, "", outcome.remark]
    verdict = "lost" if outcome.lost else "survived"
    said = f"{len(outcome.lost)}: {outcome.lost[0]}"[:100] if outcome.lost else "nothing"
    return [outcome.tried, said, f"{verdict}{outcome.remark and f'; {outcome.remark}'}"]


if __name__ == "__main__":
    main()
