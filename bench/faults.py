"""Try each fault that a run has to survive, for real, and count what is lost.

    python bench/faults.py                         half an hour on two processors
    python bench/faults.py --kills 4 --only kill   for a first idea

Real processes of `python train.py` on small digits, with dropout, Adam and an early stopping that
fires, in real stores: they are killed at random and at chosen moments, their server is stopped,
their disk filled, their database locked, their clock set back. Each is then continued by `resume=`
and compared with a run that nothing befell: digests, metrics, artifacts, model. Prints a line a
trial and a table at the end; exits with 1 if anything was lost, and keeps it in outputs/faults/.
Faults that need root or `faketime` are not tried without.
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
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, islice
from pathlib import Path

from trials import (
    ENVIRONMENT,
    NotTriedError,
    Process,
    Record,
    Trial,
    fill,
    free_port,
    loaded,
    lost,
    rows,
    server,
    small_disk,
)

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from fmnist.common.startup import without_start_up_notices  # noqa: E402
from fmnist.common.terminal import table  # noqa: E402
from fmnist.data.download import cache_folder  # noqa: E402
from fmnist.data.idx_files import DIMENSIONS  # noqa: E402

SIZED = ("data=digits", "model=selu_dropout", "model.depth=3", "model.width=30", "optimizer=adam")
STOPPING = ("callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=0.01")
ASKED = (*SIZED, "training.epochs=20", *STOPPING)  # it stops after nine
FASHION = ("data=fashion_mnist", "model.depth=2", "training.epochs=1", "callbacks=none")
ENGINES = ("compiled", "keras")
SEED = 7
OUTAGE = 30.0  # seconds
TRAINING = "^epoch +3/"  # what a run prints in mid-training
TRAINED = r"^\| best"  # and when only the store has to be told
MOMENTS = ("", *(f"^epoch +{epoch}/" for epoch in range(1, 10)), TRAINED, TRAINED)
CHOSEN = (  # function, its call, and whether the process dies before or after it
    ("shutil:copy2", 2, "after"),  # half of the run's inputs are logged
    ("zipfile:ZipFile.writestr", 4, "before"),  # half a checkpoint is written
    ("fmnist.common.files:os.fsync", 5, "before"),  # a checkpoint is whole, but not in its place
    ("pathlib:Path.replace", 5, "after"),  # between checkpoint and snapshot
    ("numpy.lib.format:write_array", 150, "before"),  # half a snapshot is written
    ("pathlib:Path.replace", 6, "after"),  # between snapshot and report
    ("mlflow:MlflowClient.log_batch", 3, "after"),  # reported, but nobody was told
    ("mlflow:MlflowClient.log_image", 3, "before"),  # between the table of layer health and picture
    ("PIL.Image:Image.save", 4, "after"),  # between a picture and its preview
    ("mlflow:MlflowClient._create_logged_model", 1, "after"),  # a model that no run knows
    ("mlflow:MlflowClient.log_outputs", 1, "after"),  # an empty model
    ("mlflow:MlflowClient.log_model_artifacts", 1, "before"),
    ("mlflow:MlflowClient.finalize_logged_model", 1, "before"),  # a model that nobody called ready
    ("fmnist.evidence.predictions:Predictions.save", 1, "before"),
    ("fmnist.tracking.run_log:log_file", 3, "before"),  # between two pictures of the run
    ("mlflow:MlflowClient.set_terminated", 1, "before"),  # all is there but the status
)


@dataclass
class Outcome:
    """What came of a fault: how often it was tried, what was lost, and what else is to be said."""

    tried: int = 0
    lost: list[str] = field(default_factory=list)
    remark: str = ""

    def add(self, name: str, problems: list[str], remark: str = "") -> None:
        """Count one trial and print its line."""
        self.tried += 1
        self.lost += [f"{name}: {problem}" for problem in problems]
        print(f"  {name}: {'; '.join(problems[:5]) or 'nothing lost'} {remark}", flush=True)

    @property
    def cells(self) -> list[object]:
        """Its cells of the table."""
        if not self.tried:
            return [0, "", self.remark]
        said = f"{len(self.lost)}: {self.lost[0][:80]}" if self.lost else "nothing"
        return [self.tried, said, ("lost " if self.lost else "survived ") + self.remark]


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

    def __post_init__(self) -> None:
        """Copy the project, lest a change of it in the meantime refuses to resume."""
        self.project = self.folder / "project"
        for name in ("train.py", "conf", "fmnist"):
            copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
            self.project.mkdir(parents=True, exist_ok=True)
            copy(PROJECT / name, self.project / name)

    def trial(self, name: str, engine: str = ENGINES[0], alone: bool = False) -> Trial:
        """Prepare a run in a folder of its own, in the common store or alone in one."""
        folder = self.folder / name
        folder.mkdir()
        database = (folder if alone else self.folder) / "mlflow.db"
        return Trial(folder, self.project, database, (*ASKED, f"training.engine={engine}"))

    def refer(self) -> None:
        """Run both engines without a fault."""
        for engine in ENGINES:
            trial = self.trial(f"reference-{engine}", engine)
            process, began = trial.started(), time.monotonic()
            problems = process.failed()
            self.seconds[engine] = time.monotonic() - began
            self.references[engine] = Record.of(trial)
            if problems := problems + self.lost(trial, engine):
                sys.exit(f"{trial.folder}: {'; '.join(problems)}")

    def lost(self, trial: Trial, engine: str = ENGINES[0]) -> list[str]:
        """Go on with a run that was stopped, unless it is finished; say what was lost."""
        if Record.of(trial).status != "FINISHED":
            done, process = trial.epochs, trial.resume()
            if problems := process.failed():
                return problems
            if not any(f"after epoch {n} of" in process.output for n in (done, done + 1)):
                return [f"{done} epochs were done, but: {process.output.splitlines()[1:2]}"]
        return lost(Record.of(trial), self.references[engine])


def kill_at_random(bench: Bench) -> Outcome:
    """Kill runs of both engines at random moments; each fifth again, while it goes on."""
    outcome, draw, phases = Outcome(), random.Random(SEED), Counter[str]()

    def one(number: int, first: str, pauses: list[float]) -> tuple[str, list[str], list[str]]:
        engine = ENGINES[number % 2]
        trial = bench.trial(f"kill-{number}", engine)
        return f"{number} ({engine})", *killed(bench, trial, engine, first, pauses)

    asked = (
        (n, draw.choice(MOMENTS), [draw.random() for _ in range(2 if n % 5 == 4 else 1)])
        for n in count()
    )
    with ThreadPoolExecutor(2) as pool:
        while outcome.tried < bench.kills:
            batch = list(islice(asked, bench.kills - outcome.tried))
            for name, problems, when in pool.map(lambda arguments: one(*arguments), batch):
                phases.update(when)
                if when:  # else it was faster than the kill
                    outcome.add(name, problems, f"(killed {', and '.join(when)})")
    outcome.remark = f"({', '.join(f'{n} {when}' for when, n in phases.items())})"
    return outcome


def killed(
    bench: Bench, trial: Trial, engine: str, first: str, pauses: list[float]
) -> tuple[list[str], list[str]]:
    """Kill a run some time after it has printed `first`; say what was lost, and when it died."""
    when: list[str] = []
    for pause in pauses:
        process = trial.resume() if when else trial.started()
        process.until_printed(r"^(epoch|\| best)" if when else first)
        time.sleep(pause * bench.seconds[engine] / 4)
        if not process.alive or Record.of(trial).status == "FINISHED":
            break
        process.kill()
        trained = "in training" if process.epochs else "before its first epoch"
        when.append("at its end" if "| best" in process.output else trained)
    problems = bench.lost(trial, engine)
    if trial.epochs == 0 and "did not come to tell what it is" in str(problems):
        return [], ["before it told what it is"]
    return problems, when


def kill_within(bench: Bench) -> Outcome:
    """Kill runs of both engines within chosen calls: half a file, half a model, half a report."""
    outcome = Outcome()

    def one(number: int) -> tuple[str, list[str]]:
        (where, call, when), engine = CHOSEN[number // 2], ENGINES[number % 2]
        trial, name = bench.trial(f"within-{number}", engine), f"{when} {where} {call} ({engine})"
        killer = [sys.executable, str(PROJECT / "bench" / "killed.py"), where, str(call), when]
        if (ended := trial.start(python=killer).wait()) != -signal.SIGKILL:
            return name, [f"was not killed, but ended with {ended}"]
        return name, bench.lost(trial, engine)

    with ThreadPoolExecutor(2) as pool:
        for name, problems in pool.map(one, range(2 * len(CHOSEN))):
            outcome.add(name, problems)
    return outcome


def server_away(bench: Bench) -> Outcome:
    """Let the tracking server be silent, or dead, for a while in mid-training."""
    outcome = Outcome()
    for how, when in (
        (signal.SIGSTOP, TRAINING),
        (signal.SIGKILL, TRAINING),
        (signal.SIGKILL, ""),
    ):
        name = f"{how.name} {'in mid-training' if when else 'at its begin'}"
        trial, port = bench.trial(f"server {name}", alone=True), free_port()
        trial.uri = f"http://127.0.0.1:{port}"
        with server(trial.folder, port) as running:
            process = trial.started(when)
            process.until(partial(rows, trial.database, "SELECT key FROM params"))
            running.send(how)
            time.sleep(OUTAGE)
            problems = trained_meanwhile(process) if when else []
            if how == signal.SIGSTOP:
                running.send(signal.SIGCONT)
            with nullcontext() if running.alive else server(trial.folder, port):
                problems += process.failed() + told_once(process)
                outcome.add(name, problems + bench.lost(trial))
    return outcome


def trained_meanwhile(process: Process) -> list[str]:
    """Say whether a run has not trained on, or has ended without having told its store all."""
    if not process.alive:
        return [f"ended: {process.errors}"]
    return [] if "| best" in process.output else ["did not train on"]


def told_once(process: Process) -> list[str]:
    """Say how often the user was told that the store is silent, if that was not once."""
    times = (process.output + process.errors).count("does not answer")
    return [] if times == 1 else [f"told {times} times"]


def server_never_back(bench: Bench) -> Outcome:
    """Let the tracking server die in mid-training; `resume` sends all when there is another."""
    outcome, port, trial = Outcome(), free_port(), bench.trial("never-back", alone=True)
    trial.uri, trial.asked = f"http://127.0.0.1:{port}", (*trial.asked, "tracking.timeout=5")
    with server(trial.folder, port):
        process = trial.started(TRAINING)
    problems = process.one_error(f"python train.py resume={trial.run_id}")
    with server(trial.folder, port):
        problems += bench.lost(trial)
    problems += ["was trained again"] if trial.processes[-1].epochs else []
    outcome.add("never back", problems)
    return outcome


def disk_full(bench: Bench) -> Outcome:
    """Fill the disk of the output in mid-training; go on when there is room again."""
    outcome = Outcome()
    for engine in ENGINES:
        trial = bench.trial(f"disk-{engine}", engine)
        with small_disk(trial.folder / "disk") as disk:
            trial.output = disk
            process, filler = filled(trial, disk)
            problems = process.one_error("No space left on device")
            problems += process.one_error(f"python train.py resume={trial.run_id}")
            problems += loaded(disk / "output0" / "best.keras")[1]
            filler.unlink()
            outcome.add(engine, problems + bench.lost(trial, engine))
    return outcome


def filled(trial: Trial, disk: Path) -> tuple[Process, Path]:
    """Start a run, and fill a disk while it holds its breath in mid-training."""
    process = trial.started(TRAINING)
    process.send(signal.SIGSTOP)
    filler = fill(disk)
    process.send(signal.SIGCONT)
    return process, filler


def disk_of_store_full(bench: Bench) -> Outcome:
    """Fill the disk of the store in mid-training, and make room after a while."""
    outcome, trial = Outcome(), bench.trial("store-disk")
    with small_disk(trial.folder / "disk") as disk:
        trial.database = disk / "mlflow.db"
        process, filler = filled(trial, disk)
        process.until_printed(TRAINED)
        time.sleep(5)
        problems = trained_meanwhile(process)
        filler.unlink()
        problems += process.failed() + told_once(process)
        outcome.add("made room", problems + bench.lost(trial))
    return outcome


def locked_database(bench: Bench) -> Outcome:
    """Lock the SQLite database in mid-training."""
    outcome, trial = Outcome(), bench.trial("locked", alone=True)
    process = trial.started(TRAINING)
    with closing(sqlite3.connect(trial.database, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(OUTAGE)
        problems = trained_meanwhile(process)
    problems += process.failed() + told_once(process)
    outcome.add("locked", problems + bench.lost(trial))
    return outcome


def damaged_data(bench: Bench) -> Outcome:
    """Damage the cached data, before or while it is read: it is fetched anew, or told in a line."""
    outcome = Outcome()
    with http_server(good_data()) as url:
        good = fingerprint(trained_on(bench, "good", url, lambda folder: None))
        for damage in (cut_short, exchanged, cut_and_mended):
            found = fingerprint(trained_on(bench, f"{damage.__name__}", url, damage))
            outcome.add(damage.__name__, [] if found == good else [f"was not trained: {found}"])
            trial = trained_on(bench, f"{damage.__name__}-offline", "http://127.0.0.1:9", damage)
            fine = trial.run_id and fingerprint(trial) == good
            told = "error: Fashion-MNIST cannot be found" in trial.processes[0].errors
            problems = [] if fine or (told and not trial.run_id) else [trial.processes[0].errors]
            outcome.add(f"{damage.__name__}, offline", problems)
    return outcome


def good_data() -> Path:
    """Return the folder of the real data.

    Raises:
        NotTriedError: if there is none.
    """
    if not (cache_folder() / "train-images-idx3-ubyte.gz").exists():
        raise NotTriedError(f"needs Fashion-MNIST in {cache_folder()}")
    return cache_folder()


def trained_on(bench: Bench, name: str, url: str, damage: Callable[[Path], None]) -> Trial:
    """Train on cached data that suffers damage, at first and until it has been read."""
    trial = bench.trial(f"data-{name}")
    folder = trial.folder / "keras" / "datasets" / "fashion-mnist"
    shutil.copytree(good_data(), folder)
    trial.asked = (*FASHION, f"data.url={url}")
    trial.variables = {"KERAS_HOME": str(trial.folder / "keras"), "PATH": ""}  # no apt-get
    damage(folder)
    process = trial.start()
    while damage is cut_and_mended and process.alive and not trial.run_id:
        damage(folder)
    process.wait()
    return trial


def cut_short(folder: Path) -> None:
    """Cut a file."""
    path = folder / "train-images-idx3-ubyte.gz"
    os.truncate(path, path.stat().st_size // 2)


def exchanged(folder: Path) -> None:
    """Put other labels in the place of the right ones, in a file that is whole."""
    path = folder / "t10k-labels-idx1-ubyte.gz"
    labels = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(labels[:8] + labels[:7:-1]))


def cut_and_mended(folder: Path) -> None:
    """Cut files, which may be read at this moment, and put whole ones back in a while."""
    for path in (folder / f"{name}.gz" for name in DIMENSIONS):
        if path.exists():
            whole = path.read_bytes()
            os.truncate(path, len(whole) // 2)
            time.sleep(0.05)
            path.write_bytes(whole)


def fingerprint(trial: Trial) -> str:
    """Return that of the data on which a run trained."""
    return Record.of(trial).tags["data.fingerprint"] if trial.run_id else "no run"


@contextmanager
def http_server(folder: Path) -> Iterator[str]:
    """Serve the files of a folder; yield the address."""
    handler = partial(Quiet, directory=str(folder))
    files = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=files.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{files.server_port}"
    files.shutdown()
    files.server_close()


class Quiet(SimpleHTTPRequestHandler):
    """Serves without a word."""

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def four_at_once(bench: Bench) -> Outcome:
    """Let four processes fetch the data and set up a new store at the same time."""
    outcome, home = Outcome(), bench.folder / "at-once-home"
    trials = [bench.trial(f"at-once-{number}") for number in range(4)]
    with http_server(good_data()) as url:
        for trial in trials:
            trial.database, trial.asked = bench.folder / "at-once.db", (*FASHION, f"data.url={url}")
            trial.variables = {"KERAS_HOME": str(home), "PATH": ""}
        processes = [trial.start() for trial in trials]
        problems = [problem for process in processes for problem in process.failed()]
    finished = rows(trials[0].database, "SELECT run_uuid FROM runs WHERE status = 'FINISHED'")
    problems += [] if len(finished) == 4 else [f"{len(finished)} of 4 runs in the store"]
    cached = sorted(p.name for p in (home / "datasets").rglob("*") if p.is_file())
    problems += [] if cached == sorted(f"{n}.gz" for n in DIMENSIONS) else [f"cached: {cached}"]
    outcome.add("four at once", problems)
    return outcome


def read_only_project(bench: Bench) -> Outcome:
    """Run where the project cannot be written to: with places elsewhere, and without."""
    outcome, trial, here = Outcome(), bench.trial("read-only", alone=True), bench.project
    mounted = f"mount --bind {here} {here} && mount -o remount,bind,ro {here} && cd {here}"
    trial.python = ["unshare", "-m", "sh", "-c", f'{mounted} && exec "$0" "$@"', sys.executable]
    if subprocess.run([*trial.python, "-c", ""], capture_output=True).returncode:
        raise NotTriedError("needs root, to mount the project read-only")
    outcome.add("places elsewhere", trial.start().failed() + bench.lost(trial))
    for place, remedy in {
        f"tracking.uri={trial.sqlite}": "hydra.run.dir=",
        f"hydra.run.dir={trial.folder}/elsewhere": "MLFLOW_TRACKING_URI=",
    }.items():
        process = Process([*trial.python, "train.py", *ASKED, place], trial.folder / remedy, here)
        outcome.add(f"without {remedy}", process.one_error(remedy))
    return outcome


def interrupted_twice(bench: Bench) -> Outcome:
    """Press Ctrl-C twice in mid-training."""
    outcome, draw = Outcome(), random.Random(SEED)
    for number in range(8):
        engine, name = ENGINES[number % 2], f"Ctrl-C twice {number}"
        trial = bench.trial(f"interrupt-{number}", engine)
        process = trial.started("^epoch +1/")
        time.sleep(draw.random() * bench.seconds[engine] / 2)
        process.send(signal.SIGINT)
        time.sleep(draw.choice([0.01, 0.1, 0.2]))
        process.send(signal.SIGINT)
        ended = process.wait(30)
        said = "stopped by SIGINT; resume it: "
        said += f"MLFLOW_TRACKING_URI={trial.sqlite} python train.py resume={trial.run_id}"
        if ended == 0:
            outcome.add(name, bench.lost(trial, engine), "(it had finished)")
            continue
        fine = ended in (128 + signal.SIGINT, -signal.SIGINT) and process.errors == said
        problems = [] if fine else [f"ended with {ended}: {process.errors[-600:]}"]
        status = Record.of(trial).status
        outcome.add(name, problems + bench.lost(trial, engine), f"(left as {status})")
    return outcome


def clock_set_back(bench: Bench) -> Outcome:
    """Set the clock back by a day in mid-training; one run is killed as well."""
    libraries = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        raise NotTriedError("needs faketime")
    outcome = Outcome()
    for name in ("clock", "clock-and-kill"):
        trial = bench.trial(name)
        clock = trial.folder / "clock"
        clock.write_text("+0d\n")
        trial.variables = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        process, problems = trial.started(TRAINING), []
        clock.write_text("-1d\n")
        if name == "clock":
            problems = process.failed()
        else:
            time.sleep(0.3)
            process.kill()
        outcome.add(name, problems + bench.lost(trial))
    return outcome


def diverged(bench: Bench) -> Outcome:
    """Let the loss become NaN."""
    outcome, trial = Outcome(), bench.trial("diverged")
    trial.asked = (*SIZED, "optimizer.learning_rate=1e10")
    problems, record = trial.start().one_error("training diverged"), Record.of(trial)
    problems += [] if record.status == "FAILED" else [f"is {record.status}"]
    outcome.add("NaN", problems + (["a model was logged"] if record.models else []))
    return outcome


FAULTS: dict[str, tuple[str, Callable[[Bench], Outcome]]] = {
    "kill": ("SIGKILL at a random moment", kill_at_random),
    "within": ("SIGKILL within a write or a request", kill_within),
    "server": (f"tracking server silent, or dead, for {OUTAGE:.0f} s", server_away),
    "never": ("tracking server never back", server_never_back),
    "disk": ("disk of the output full", disk_full),
    "store": ("disk of the store full for a while", disk_of_store_full),
    "locked": (f"SQLite locked for {OUTAGE:.0f} s", locked_database),
    "data": ("data cut short or exchanged", damaged_data),
    "four": ("four processes fetch, and set up a store", four_at_once),
    "read-only": ("project folder read-only", read_only_project),
    "interrupt": ("Ctrl-C twice", interrupted_twice),
    "clock": ("clock set back by a day", clock_set_back),
    "nan": ("loss becomes NaN", diverged),
}


def tried(bench: Bench, name: str) -> Outcome:
    """Try one fault."""
    title, fault = FAULTS[name]
    print(title, flush=True)
    try:
        return fault(bench)
    except NotTriedError as needs:
        print(f"  not tried: {needs}")
        return Outcome(remark=f"not tried: {needs}")
    except TimeoutError as error:
        print(f"  hangs: {error}")
        return Outcome(1, [f"hangs: {error}"])


def main() -> None:
    """Try the faults and print the table."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--kills", type=int, default=50, help="at random moments (50)")
    parser.add_argument("--only", metavar="NAME,…", help=f"of {', '.join(FAULTS)}")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(FAULTS)
    if unknown := set(names) - FAULTS.keys():
        parser.error(f"--only {','.join(unknown)}: choose from {', '.join(FAULTS)}")
    os.environ.update(ENVIRONMENT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    with without_start_up_notices():
        import keras  # noqa: F401
    began, place = time.monotonic(), PROJECT / "outputs" / "faults"
    bench = Bench(place / time.strftime("%Y-%m-%d_%H-%M-%S"), options.kills)
    bench.refer()
    outcomes = {name: tried(bench, name) for name in names}
    cells = [[FAULTS[name][0], *outcome.cells] for name, outcome in outcomes.items()]
    print(f"\n{table(['fault', 'times tried', 'lost', 'verdict'], cells)}")
    print(f"\n{time.monotonic() - began:.0f} s")
    if any(outcome.lost for outcome in outcomes.values()):
        sys.exit(f"what was lost is in {bench.folder}")
    shutil.rmtree(bench.folder)


if __name__ == "__main__":
    main()
