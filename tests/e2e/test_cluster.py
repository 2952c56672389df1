"""A sweep on a Ray cluster of two hosts, whose links are cut and whose processes are killed."""

import json
import os
import re
import shutil
import signal
import sqlite3
import time
from contextlib import closing

import pytest

from conftest import QUICK, runs_in, train
from two_nodes import HEAD, WORKER, two_nodes

pytest.importorskip("ray", reason="needs the extra `cluster`; make test installs it")
LACKING = os.geteuid() != 0 or not shutil.which("ip")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(LACKING, reason="needs root and iproute2; .ci/run has both"),
]

EPOCHS = 120
CUT_OFF, KILLED = (1, 2), (3, 4)  # seeds of two sweeps: one job for each host
WITHOUT = [f"~callbacks.{name}" for name in ("early_stopping", "layer_health", "tensorboard")]
JOBS = (*QUICK[:-1], "model=selu", f"training.epochs={EPOCHS}", *WITHOUT)
CUT = 30  # seconds


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with two_nodes(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def query(cluster, sql):
    """What the tracking server's database answers."""
    with closing(sqlite3.connect(f"file:{cluster.folder}/server.db?mode=ro", uri=True)) as database:
        return database.execute(sql).fetchall()


def tags(cluster, key):
    """The tag of each run, by its seed."""
    sql = f"""
        SELECT params.value, tags.value FROM tags JOIN params USING (run_uuid)
        WHERE tags.key = '{key}' AND params.key = 'seed' ORDER BY params.value
    """
    return dict(query(cluster, sql))


def wait_until(true, process, seconds=480):
    until = time.monotonic() + seconds
    while not true():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)


def start_sweep(cluster, seeds):
    """A sweep, and its folder."""
    sweep = cluster.folder / f"sweep{seeds[0]}"
    both = ",".join(map(str, seeds))
    return cluster.train(*JOBS, f"seed={both}", f"hydra.sweep.dir={sweep}"), sweep


def epochs_on_worker(cluster, seeds, sweep):
    """How many epochs the jobs of the worker have done, by seed."""
    here = [int(seed) for seed, name in tags(cluster, "host").items() if name == WORKER]
    jobs = [json.loads(path.read_text()) for path in (sweep / "jobs").glob("[0-9]*.json")]
    done = {seeds[job["number"]]: job["epoch"] for job in jobs}
    return {seed: epoch for seed, epoch in done.items() if seed in here}


def running_on_worker(cluster, process, seeds, sweep):
    """The seed of the job that the worker is in the middle of, and its epoch."""

    def running():
        epochs = epochs_on_worker(cluster, seeds, sweep)
        return {seed: epoch for seed, epoch in epochs.items() if 5 < epoch < EPOCHS - 50}

    wait_until(running, process)
    [job] = running().items()
    return job


def test_nothing_is_lost_if_a_link_is_cut_and_a_node_dies(cluster, tmp_path):
    process, sweep = start_sweep(cluster, CUT_OFF)
    cut_off, epoch = running_on_worker(cluster, process, CUT_OFF, sweep)
    cluster.link("down")
    time.sleep(CUT)
    assert epochs_on_worker(cluster, CUT_OFF, sweep)[cut_off] > epoch + 1  # it trained on
    assert process.poll() is None
    cluster.link("up")
    assert process.wait(timeout=480) == 0, cluster.log("train.log")
    process, sweep = start_sweep(cluster, KILLED)
    killed, epoch = running_on_worker(cluster, process, KILLED, sweep)
    assert cluster.kill(WORKER) > 2
    assert process.wait(timeout=960) == 0, cluster.log("train.log")
    hosts = tags(cluster, "host")
    assert (hosts[str(cut_off)], hosts[str(killed)]) == (WORKER, HEAD)
    assert tags(cluster, "resumed") == {str(killed): "1"}
    log = (sweep / str(KILLED.index(killed)) / "train.log").read_text()
    assert epoch <= int(re.search(r"resumes after epoch (\d+) of", log)[1]) < EPOCHS
    points = query(
        cluster,
        "SELECT key, count(*), count(DISTINCT run_uuid || step) FROM metrics "
        "WHERE key IN ('loss', 'val_accuracy') GROUP BY key",
    )
    every = len(CUT_OFF + KILLED) * EPOCHS
    assert points == [("loss", every, every), ("val_accuracy", every, every)]
    assert query(cluster, "SELECT status, count(*) FROM runs GROUP BY status") == [
        ("FINISHED", len(CUT_OFF + KILLED) + 2)  # and the two sweeps
    ]
    both = f"seed={cut_off},{killed}"
    done = train("-m", *JOBS, both, "training.threads=1", folder=tmp_path, timeout=960)
    assert done.returncode == 0, done.stderr
    for key in ("weights.digest.last", "weights.digest.best"):
        runs = [run for run in runs_in(tmp_path) if "seed" in run.data.params]
        undisturbed = {run.data.params["seed"]: run.data.tags[key] for run in runs}
        assert len(undisturbed) == 2 and undisturbed.items() <= tags(cluster, key).items()


def test_what_fails_costs_only_itself_and_ctrl_c_leaves_nothing_running(cluster):
    sweep = cluster.folder / "stopped"
    command = (*JOBS, "training.batch_size=32,100000", "seed=11", f"hydra.sweep.dir={sweep}")
    process = cluster.train(*command, log="stopped.log")
    state = sweep / "jobs" / "0.json"
    wait_until(lambda: state.exists() and json.loads(state.read_text())["epoch"], process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(timeout=240) == 130
    assert cluster.log("stopped.log").endswith("resume it: type the same command again\n")
    others = "SELECT status, count(*) FROM runs WHERE status != 'FINISHED' GROUP BY status"
    assert dict(query(cluster, others)) == {"KILLED": 2}
    again = cluster.train(*command[:-1], f"hydra.sweep.dir={sweep}-again", log="again.log")
    assert again.wait(timeout=480) == 1
    printed = cluster.log("again.log")
    assert " resumes: finished runs" in printed
    assert "error: 1 of 2 jobs failed" in printed and "job 1/2" in printed
    assert "training.batch_size=100000: must be at most the" in printed.rpartition("failed:")[2]
    assert dict(query(cluster, others)) == {"FAILED": 1}
    assert tags(cluster, "resumed")["11"] == "1"
