"""Time a study with one job at a time, on both processors, and on a cluster of two nodes.

    python bench/sweeps.py                      # the tutorial study, half an hour; as root
    python bench/sweeps.py seed=1,2 --disturb   # two of its seeds, a quarter of an hour

Each job has one thread, so all ways must come to the same weights. With --disturb the cluster runs
the study once more: the worker's link to the tracking server is cut for 30 s, then the worker is
killed and joins again.
"""

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from two_nodes import PROJECT, WORKER, TwoNodes, two_nodes

sys.path.insert(0, str(PROJECT))

from fmnist.common.terminal import table

PROCESSORS = 2
LINK_DOWN, WORKER_DOWN = 30.0, 30.0  # seconds
POLL_INTERVAL = 1.0
COLUMNS = (
    *("jobs", "wall time, s", "of both processors", "runs finished", "same weights"),
    "metric points",
)


@dataclass(frozen=True)
class SweepResult:
    """Wall time (s) of a study, the digests of its weights by run, and its metric points.

    `repeated` counts the points that the store has twice.
    """

    way: str
    seconds: float
    digests: dict[str, str]
    points: int
    repeated: int


def main() -> None:
    """Print the table after each way."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--experiment", default="tutorial", help="(%(default)s)")
    parser.add_argument("overrides", nargs="*", help="of the study: seed=1,2")
    parser.add_argument("--disturb", action="store_true", help="and once more, disturbed")
    parser.add_argument("--keep", metavar="FOLDER", help="keep stores, models and logs there")
    options = parser.parse_args()
    with ExitStack() as cleanup:
        kept = options.keep or cleanup.enter_context(tempfile.TemporaryDirectory())
        folder = Path(kept).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        study = [f"+experiment={options.experiment}", *options.overrides]
        results: list[SweepResult] = []
        for result in run_all(folder, study, options.disturb):
            results.append(result)
            print(f"{table(list(COLUMNS), rows(results))}\n", flush=True)


def run_all(folder: Path, study: list[str], disturb: bool) -> Iterator[SweepResult]:
    """Run the study in each way."""
    yield on_this_machine(folder, study, "basic", "one after another")
    yield on_this_machine(folder, study, "joblib", "two at once")
    with two_nodes(folder) as cluster:
        yield on_cluster(cluster, study, "two nodes", disturbed=False)
        if disturb:
            yield on_cluster(cluster, study, "two nodes, disturbed", disturbed=True)


def on_this_machine(folder: Path, study: list[str], launcher: str, way: str) -> SweepResult:
    """Run the study on the processors of this machine."""
    database = folder / f"{launcher}.db"
    command = [sys.executable, "train.py", "-m", *study]
    command += [f"hydra/launcher={launcher}", f"tracking.uri=sqlite:///{database}"]
    command += [f"hydra.sweep.dir={folder}/{launcher}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    started = time.monotonic()
    with (folder / f"{launcher}.log").open("w") as log:
        subprocess.run(command, cwd=PROJECT, env=environment, stdout=log, check=True)
    return read_result(way, time.monotonic() - started, database, launcher)


def on_cluster(cluster: TwoNodes, study: list[str], way: str, disturbed: bool) -> SweepResult:
    """Run the study on two nodes; if `disturbed`, cut a link and kill the worker meanwhile."""
    name = "disturbed" if disturbed else "undisturbed"
    sweep = cluster.folder / name
    started = time.monotonic()
    process = cluster.train(*study, "rerun=true", f"hydra.sweep.dir={sweep}")
    if disturbed:
        _wait_for_jobs(process, sweep, jobs=2)
        cluster.link("down")
        time.sleep(LINK_DOWN)
        cluster.link("up")
        _wait_for_jobs(process, sweep, jobs=6)
        print(f"killed {cluster.kill(WORKER)} processes of the worker")
        time.sleep(WORKER_DOWN)
        cluster.begin_node(WORKER)
    if process.wait():
        raise RuntimeError(cluster.log("train.log"))
    return read_result(way, time.monotonic() - started, cluster.folder / "server.db", name)


def _wait_for_jobs(process: subprocess.Popen[str], sweep: Path, jobs: int) -> None:
    """Wait until `jobs` jobs have ended, and others run."""
    ended = 0
    while ended < jobs and process.poll() is None:
        time.sleep(POLL_INTERVAL)
        records = [path.read_text() for path in (sweep / "jobs").glob("[0-9]*.json")]
        ended = sum('"ended": true' in record for record in records)


def read_result(way: str, seconds: float, database: Path, name: str) -> SweepResult:
    """Read what the store has of the sweep in the folder `name`."""
    runs = f"""
        SELECT run_uuid FROM tags WHERE key = 'output_dir' AND value LIKE '%/{name}/%'
    """
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        digests = store.execute(
            f"SELECT name, value FROM runs JOIN tags USING (run_uuid) "
            f"WHERE key = 'weights.digest.last' AND status = 'FINISHED' AND run_uuid IN ({runs})"
        ).fetchall()
        [(points, different)] = store.execute(
            f"SELECT count(*), count(DISTINCT run_uuid || key || step) FROM metrics "
            f"WHERE run_uuid IN ({runs})"
        ).fetchall()
    return SweepResult(way, seconds, dict(digests), points, points - different)


def rows(results: list[SweepResult]) -> list[list[str]]:
    """Return a row of the table for each way, compared with the first."""
    first = results[0]
    return [
        [
            result.way,
            f"{result.seconds:.0f}",
            f"{first.seconds / result.seconds / PROCESSORS:.0%}",
            f"{len(result.digests)}",
            f"{len(first.digests.items() & result.digests.items())} of {len(first.digests)}",
            f"{result.points:,} ({first.points - result.points + result.repeated} lost, "
            f"{result.repeated} twice)",
        ]
        for result in results
    ]


if __name__ == "__main__":
    main()
