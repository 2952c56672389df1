"""Time the commands on stores of 100, 1,000 and 10,000 runs, in SQLite and in PostgreSQL.

    python bench/scale.py                  a quarter of an hour on two processors, 2 GB
    python bench/scale.py --quick          100 and 1,000 runs in SQLite: five minutes

A real sweep of 25 trainings on digits, with a decision on it, is copied row by row: to the store it
looks as if the same study had been made and decided on again and again, each time with another
champion. Then, on the latest study, each command runs as a process of its own, three times (the
middle counts); a sweep begins, and looks for an unfinished one of the same signature; a job looks
for its earlier self; and real trainings are tracked, of which the seconds within the store's
methods count. Last, clients that do not train tell what a run tells, as fast as they can.
Prints the tables, leaves scale.json and scale.png in outputs/scale/, and without --quick puts the
picture into docs/, too.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import mlflow
import sqlalchemy
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure
from mlflow.entities import Metric, Param, RunTag

from copies import Original, fill
from speed import timed
from trials import free_port

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from fmnist.common.startup import importing_tensorflow  # noqa: E402
from fmnist.common.terminal import table  # noqa: E402
from fmnist.config.schema import Config, Tracking  # noqa: E402
from fmnist.tracking import tag  # noqa: E402
from fmnist.tracking.store import Store, existing_store  # noqa: E402

SIZES = (100, 1_000, 10_000)
MODELS = ("relu", "batch_norm", "selu", "selu_dropout", "selu_plain_dropout")
ASKED = ("data=digits", "training.threads=1")
STUDY = 25  # runs
REPEATS = 3
CLIENTS, SECONDS = (1, 8), 10.0
COMMANDS = {
    "compare": ("compare",),
    "promote --dry-run": ("promote", "--dry-run"),
    "history": ("history",),
}
COLOURS = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7")  # Okabe and Ito's

Figures = dict[str, dict[str, float]]  # of each operation: seconds, and what else was measured


def original(folder: Path) -> Original:
    """Make a real study and a decision on it; return their rows."""
    uri = f"sqlite:///{folder}/study.db"
    sweep = ["-m", f"model={','.join(MODELS)}", "seed=1,2,3,4,5", "hydra/launcher=joblib"]
    for command in (
        ["train.py", *sweep, *ASKED, f"hydra.sweep.dir={folder}/sweep"],
        ["-m", "fmnist", "promote", "--first"],
    ):
        timed([sys.executable, *command], MLFLOW_TRACKING_URI=uri)
    return Original.of(uri)


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL server of its own; yield the address of its empty database."""
    debian = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")))
    tool = shutil.which("pg_ctl") or (debian or sys.exit("needs PostgreSQL"))[-1]
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as place:
        if user:  # it refuses to run as root
            shutil.chown(place, "postgres")
        control = [*user, tool, "-D", f"{place}/data", "-w", "-s"]
        port = free_port()
        options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1"
        for command in (
            [*control, "initdb", "-o", "-A trust -U postgres"],
            [*control, "-l", f"{place}/log", "-o", options, "start"],
        ):
            subprocess.run(command, check=True, cwd="/")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, cwd="/")


def alone(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def typed(uri: str, command: tuple[str, ...]) -> dict[str, float]:
    """Run a command as a user does."""
    runs = [
        timed([sys.executable, "-m", "fmnist", *command], MLFLOW_TRACKING_URI=uri)[1:]
        for _ in range(REPEATS)
    ]
    seconds, megabytes = (statistics.median(values) for values in zip(*runs, strict=True))
    return {"seconds": seconds, "MB": megabytes}


def job(uri: str, folder: str, seed: int) -> Config:
    """Compose a training as those of the study are, which writes to `folder`."""
    with importing_tensorflow():
        import keras  # noqa: F401
    places = (f"output_dir={folder}", f"tracking.uri={uri}")
    with initialize_config_dir(version_base="1.3", config_dir=str(PROJECT / "conf")):
        return Config.from_hydra(
            compose("train", [*ASKED, f"model={MODELS[0]}", f"seed={seed}", *places])
        )


def opened(uri: str) -> Store:
    """Open the store in this process."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    return existing_store("fmnist")


def begun(uri: str) -> dict[str, float]:
    """Begin a sweep as the latest one was, and take that back."""
    from fmnist.evidence.comparison import StudyDesign
    from fmnist.tracking import studies

    store, times, client = opened(uri), [], mlflow.MlflowClient()
    asked = client.get_run(studies.latest(store)).data.tags[tag.SIGNATURE]
    for _ in range(REPEATS):
        began = time.perf_counter()
        sweep = studies.Sweep("again", "/", "again", None, 1, signature=asked)
        made = studies.begin(Tracking(uri, "fmnist"), StudyDesign(), sweep)
        times.append(time.perf_counter() - began)
        client.delete_run(made.run_id)
    return {"seconds": statistics.median(times), "MB": peak()}


def resumed(uri: str) -> dict[str, float]:
    """Look for the run that a job of the latest study is the same as."""
    from fmnist.config.instantiate import instantiate
    from fmnist.runs import resume
    from fmnist.tracking import studies

    store, times = opened(uri), []
    config, latest = job(uri, "/", 1), studies.latest(store)
    dataset = instantiate("data", config.data)
    for _ in range(REPEATS):
        began = time.perf_counter()
        found = resume.of_study(store, latest, config, dataset)
        times.append(time.perf_counter() - began)
        assert found and found.info.status == "FINISHED"
    return {"seconds": statistics.median(times), "MB": peak()}


def peak() -> float:
    """Return the most memory that this process had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def tracked(uri: str) -> dict[str, float]:
    """Train with new seeds; return the seconds of a run within the store's methods, and calls."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    from fmnist.runs.run import run

    spent: list[float] = []
    for name, method in vars(SqlAlchemyStore).items():
        if callable(method) and not name.startswith("_"):
            setattr(SqlAlchemyStore, name, clocked(method, spent))
    times = []
    for seed in range(6, 6 + REPEATS):
        spent.clear()
        with tempfile.TemporaryDirectory() as folder:
            run(job(uri, folder, seed))
        times.append(sum(spent))
    return {"seconds": statistics.median(times), "calls": len(spent), "MB": peak()}


within = threading.local()


def clocked(method: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """Let a method add its seconds to `spent`, but not when it is called by another one."""

    def wrapper(*arguments: Any, **named: Any) -> Any:
        if getattr(within, "another", False):
            return method(*arguments, **named)
        within.another, began = True, time.perf_counter()
        try:
            return method(*arguments, **named)
        finally:
            within.another = False
            spent.append(time.perf_counter() - began)

    return wrapper


def tell(uri: str, seconds: float) -> int:
    """Tell a store what a run tells it, but no artifacts, again and again; return how often."""
    from fmnist.tracking import studies, study_runs

    store, client = opened(uri), mlflow.MlflowClient()
    run = client.get_run(study_runs.load(store, studies.latest(store)).runs[0].run_id)
    assert run.inputs
    batches: dict[int, list[Metric]] = {}
    for key in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, key):
            batches.setdefault(point.step, []).append(point)
    count, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        made = client.create_run(store.experiment_id, run_name="told").info.run_id
        client.log_batch(made, params=[Param(*one) for one in run.data.params.items()])
        client.log_inputs(made, run.inputs.dataset_inputs)
        for metrics in batches.values():
            client.log_batch(made, metrics)
        client.log_batch(made, tags=[RunTag(*one) for one in run.data.tags.items()])
        client.set_terminated(made)
        count += 1
    return count


def rate(uri: str, clients: int) -> float:
    """Return how many runs a second so many clients at once tell a store."""
    with ProcessPoolExecutor(clients, get_context("spawn")) as pool:
        list(pool.map(tell, [uri] * clients, [0.0] * clients))  # imports
        counts = list(pool.map(tell, [uri] * clients, [SECONDS] * clients))
    return sum(counts) / SECONDS


def measured(uri: str) -> Figures:
    """Measure everything on a store as it is."""
    figures = {name: typed(uri, command) for name, command in COMMANDS.items()}
    for name, function in {
        "a sweep begins": begun,
        "a job looks for its earlier self": resumed,
        "tracking of a run": tracked,
    }.items():
        figures[name] = alone(function, uri)
    return figures


def megabytes(uri: str) -> float:
    """Return the size of a database."""
    engine = sqlalchemy.create_engine(uri)
    if engine.dialect.name == "sqlite":
        return Path(str(engine.url.database)).stat().st_size / 1e6
    with engine.connect() as connection:
        size = "SELECT pg_database_size(current_database())"
        return int(connection.exec_driver_sql(size).scalar_one()) / 1e6


def grown(name: str, uri: str, study: Original, sizes: tuple[int, ...]) -> dict[int, Figures]:
    """Fill a store step by step, and measure it at each size."""
    figures: dict[int, Figures] = {}
    studies = 0
    for size in sizes:
        began = time.perf_counter()
        fill(uri, study, range(studies, size // STUDY))
        studies = size // STUDY
        filled = time.perf_counter() - began
        print(f"{name}: {size:,} runs, {megabytes(uri):.0f} MB, {filled:.0f} s", flush=True)
        figures[size] = measured(uri)
        for operation, values in figures[size].items():
            said = "  ".join(f"{key} {value:.3g}" for key, value in values.items())
            print(f"  {operation}: {said}", flush=True)
    return figures


def as_table(figures: dict[str, dict[int, Figures]]) -> str:
    """Return a row for each store and operation."""
    rows = []
    for store, by_size in figures.items():
        *_, before, last = by_size.values()
        for operation, values in last.items():
            seconds = [f"{one[operation]['seconds']:.3g}" for one in by_size.values()]
            growth = f"{values['seconds'] / before[operation]['seconds']:.1f}"
            rows.append([store, operation, *seconds, growth, f"{values['MB']:.0f}"])
    sizes = [f"{size:,}" for size in next(iter(figures.values()))]
    columns = [f"{size} runs: s" for size in sizes]
    return table(["store", "", *columns, f"{sizes[-1]} / {sizes[-2]}", "MB at the end"], rows)


def picture(figures: dict[str, dict[int, Figures]]) -> Figure:
    """Draw the seconds of each operation against the number of runs."""
    figure = Figure(figsize=(5.2 * len(figures), 4.8), layout="constrained")
    panels = figure.subplots(1, len(figures), sharey=True, squeeze=False)[0]
    for axes, (store, by_size) in zip(panels, figures.items(), strict=True):
        sizes = list(by_size)
        for operation, colour in zip(by_size[sizes[0]], COLOURS, strict=True):
            seconds = [operations[operation]["seconds"] for operations in by_size.values()]
            axes.loglog(sizes, seconds, "o-", color=colour, label=operation)
        axes.loglog(
            sizes, [size / 3e4 for size in sizes], "--", color="#999999", label="linear growth"
        )
        axes.set(title=store, xlabel="runs in the store")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("seconds")
    lines = panels[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper center", ncols=4, frameon=False)
    return figure


def main() -> None:
    """Fill, measure, print, draw."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--quick", action="store_true", help="for a first idea")
    quick = parser.parse_args().quick
    began, figures, rates = time.monotonic(), {}, []
    with tempfile.TemporaryDirectory() as place, ExitStack() as held:
        study = original(Path(place))
        stores = {"SQLite": f"sqlite:///{place}/mlflow.db"}
        if not quick:
            stores["PostgreSQL"] = held.enter_context(postgresql())
        for name, uri in stores.items():
            figures[name] = grown(name, uri, study, SIZES[:-1] if quick else SIZES)
            rates += [[name, clients, f"{rate(uri, clients):.1f}"] for clients in CLIENTS]
    print(f"\n{as_table(figures)}\n\n{table(['store', 'clients', 'runs a second'], rates)}")
    print(f"\n{time.monotonic() - began:.0f} s")
    output = PROJECT / "outputs" / "scale"
    output.mkdir(parents=True, exist_ok=True)
    result = {"figures": figures, "rates": rates}
    (output / "scale.json").write_text(json.dumps(result, indent=1))
    for path in [output / "scale.png", *([] if quick else [PROJECT / "docs" / "scale.png"])]:
        picture(figures).savefig(path, dpi=110)
        print(path.relative_to(PROJECT))


if __name__ == "__main__":
    main()
