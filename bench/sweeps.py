"""Time a study one after another, on both processors and on a cluster of two nodes.

    python bench/sweeps.py                      # the tutorial study, half an hour; as root
    python bench/sweeps.py seed=1,2 --disturb   # two of its seeds, a quarter of an hour

All ways give each job one thread, so that all must come to the same weights. With --disturb the
cluster does the study once more, while the worker's link to the tracking server is cut for 30 s
and then the worker is killed, which joins again afterwards.
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
CUT, AWAY = 30.0, 30.0  # seconds without the link, and without the worker
PAUSE = 1.0


@dataclass(frozen=True)
class Sweep:
    """How a study went: its wall time (s), the digests of its weights by run, and its points."""

    way: str
    seconds: float
    digests: dict[str, str]
    points: int
    repeated: int


def main() -> None:
    """Print the table, anew after each way."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--experiment", default="tutorial", help="(%(default)s)")
    parser.add_argument("overrides", nargs="*", help="of the study: seed=1,2")
    parser.add_argument("--disturb", action="store_true", help="and once more, disturbed")
    parser.add_argument("--keep", metavar="FOLDER", help="keep stores, models and logs there")
    options = parser.parse_args()
    with ExitStack() as cleanup:
        place = options.keep or cleanup.enter_context(tempfile.TemporaryDirectory())
        folder = Path(place).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        study = [f"+experiment={options.experiment}", *options.overrides]
        sweeps: list[Sweep] = []
        for sweep in swept(folder, study, options.disturb):
            sweeps.append(sweep)
            print(f"{table(*shown(sweeps))}\n", flush=True)


def swept(folder: Path, study: list[str], disturb: bool) -> Iterator[Sweep]:
    """Do the study in each way."""
    yield on_this_machine(folder, study, "basic", "one after another")
    yield on_this_machine(folder, study, "joblib", "two at once")
    with two_nodes(folder) as cluster:
        yield on_cluster(cluster, study, "two nodes", disturbed=False)
        if disturb:
            yield on_cluster(cluster, study, "two nodes, disturbed", disturbed=True)


def on_this_machine(folder: Path, study: list[str], launcher: str, way: str) -> Sweep:
    """Do the study on the processors of this machine."""
    database = folder / f"{launcher}.db"
    command = [sys.executable, "train.py", "-m", *study]
    command += [f"hydra/launcher={launcher}", f"tracking.uri=sqlite:///{database}"]
    own = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    begun = time.monotonic()
    with (folder / f"{launcher}.log").open("w") as log:
        place = f"hydra.sweep.dir={folder}/{launcher}"
        subprocess.run([*command, place], cwd=PROJECT, env=own, stdout=log, check=True)
    return came_of(way, time.monotonic() - begun, database, launcher)


def on_cluster(cluster: TwoNodes, study: list[str], way: str, disturbed: bool) -> Sweep:
    """Do the study on two nodes; perhaps cut a link meanwhile, and kill the worker."""
    name = "disturbed" if disturbed else "undisturbed"
    sweep = cluster.folder / name
    begun = time.monotonic()
    process = cluster.train(*study, "rerun=true", f"hydra.sweep.dir={sweep}")
    if disturbed:
        _until_ended(process, sweep, jobs=2)
        cluster.link("down")
        time.sleep(CUT)
        cluster.link("up")
        _until_ended(process, sweep, jobs=6)
        print(f"killed {cluster.kill(WORKER)} processes of the worker")
        time.sleep(AWAY)
        cluster.begin_node(WORKER)
    if process.wait():
        raise RuntimeError(cluster.log("train.log"))
    return came_of(way, time.monotonic() - begun, cluster.folder / "server.db", name)


def _until_ended(process: subprocess.Popen[str], sweep: Path, jobs: int) -> None:
    """Wait until some jobs have ended and others are under way."""
    ended = 0
    while ended < jobs and process.poll() is None:
        time.sleep(PAUSE)
        records = [path.read_text() for path in (sweep / "jobs").glob("[0-9]*.json")]
        ended = sum('"ended": true' in record for record in records)


def came_of(way: str, seconds: float, database: Path, name: str) -> Sweep:
    """Look up what the store has of the sweep in the folder `name`."""
    own = f"""
        SELECT run_uuid FROM tags WHERE key = 'output_dir' AND value LIKE '%/{name}/%'
    """
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        digests = store.execute(
            f"SELECT name, value FROM runs JOIN tags USING (run_uuid) "
            f"WHERE key = 'weights.digest.last' AND status = 'FINISHED' AND run_uuid IN ({own})"
        ).fetchall()
        [(points, different)] = store.execute(
            f"SELECT count(*), count(DISTINCT run_uuid || key || step) FROM metrics "
            f"WHERE run_uuid IN ({own})"
        ).fetchall()
    return Sweep(way, seconds, dict(digests), points, points - different)


def shown(sweeps: list[Sweep]) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows."""
    first = sweeps[0]
    rows = []
    for sweep in sweeps:
        same = sum(first.digests.get(name) == own for name, own in sweep.digests.items())
        lost = first.points - sweep.points + sweep.repeated
        efficiency = first.seconds / sweep.seconds / PROCESSORS
        rows.append(
            [
                sweep.way,
                f"{sweep.seconds:.0f}",
                f"{efficiency:.0%}",
                f"{len(sweep.digests)}",
                f"{same} of {len(first.digests)}",
                f"{sweep.points:,} ({lost} lost, {sweep.repeated} twice)",
            ]
        )
    columns = ["jobs", "wall time, s", "of both processors", "runs finished", "same weights"]
    return [*columns, "metric points"], rows


if __name__ == "__main__":
    main()
