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

pytest.importorskip("ray", reason="needs the extra `scale`; make test installs it")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and iproute2; .ci/run has both"
)

EPOCHS, SEEDS = 200, 8
WITHOUT = [f"~callbacks.{name}" for name in ("early_stopping", "layer_health", "tensorboard")]
JOBS = (*QUICK[:-1], "model=selu", f"training.epochs={EPOCHS}", *WITHOUT)
CUT = 30  # seconds


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with two_nodes(tmp_path_factory.mktemp("cluster")) as made:
        yield made


def asked(cluster, question):
    """What the tracking server's database answers."""
    with closing(sqlite3.connect(f"file:{cluster.folder}/server.db?mode=ro", uri=True)) as database:
        return database.execute(question).fetchall()


def tags(cluster, key):
    """The tag of each run, by its seed."""
    question = f"""
        SELECT params.value, tags.value FROM tags JOIN params USING (run_uuid)
        WHERE tags.key = '{key}' AND params.key = 'seed' ORDER BY params.value
    """
    return dict(asked(cluster, question))


def wait_until(true, process, seconds=120):
    until = time.monotonic() + seconds
    while not true():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)


def epochs_on(cluster, host, sweep):
    """How many epochs each job under way on a host has done."""
    here = [int(seed) for seed, name in tags(cluster, "host").items() if name == host]
    jobs = [json.loads(path.read_text()) for path in (sweep / "jobs").glob("[0-9]*.json")]
    return {job["number"] + 1: job["epoch"] for job in jobs if job["number"] + 1 in here}


def test_nothing_is_lost_if_a_link_is_cut_and_a_node_dies(cluster, tmp_path):
    sweep = cluster.folder / "sweep"
    seeds = ",".join(str(seed) for seed in range(1, SEEDS + 1))
    process = cluster.train(*JOBS, f"seed={seeds}", f"hydra.sweep.dir={sweep}")

    def under_way():
        return {s: e for s, e in epochs_on(cluster, WORKER, sweep).items() if 5 < e < EPOCHS - 20}

    wait_until(under_way, process)
    cluster.link("down")
    [(cut_off, epoch)] = under_way().items()
    time.sleep(CUT)
    assert epochs_on(cluster, WORKER, sweep)[cut_off] > epoch + 1  # it trained on
    cluster.link("up")
    wait_until(under_way, process)
    [(killed, epoch)] = under_way().items()
    assert cluster.kill(WORKER) > 2
    process.wait(timeout=240)
    printed = cluster.log("train.log")
    assert process.returncode == 0, printed
    hosts = tags(cluster, "host")
    assert (hosts[str(cut_off)], hosts[str(killed)]) == (WORKER, HEAD)
    assert tags(cluster, "resumed") == {str(killed): "1"}
    own = (sweep / str(killed - 1) / "train.log").read_text()
    assert epoch <= int(re.search(r"goes on after epoch (\d+) of", own)[1]) < EPOCHS
    points = asked(
        cluster,
        "SELECT key, count(*), count(DISTINCT run_uuid || step) FROM metrics "
        "WHERE key IN ('loss', 'val_accuracy') GROUP BY key",
    )
    every = SEEDS * EPOCHS
    assert points == [("loss", every, every), ("val_accuracy", every, every)]
    assert asked(cluster, "SELECT status, count(*) FROM runs GROUP BY status") == [
        ("FINISHED", SEEDS + 1)
    ]
    both = f"seed={cut_off},{killed}"
    done = train("-m", *JOBS, both, "training.threads=1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for key in ("weights.digest.last", "weights.digest.best"):
        runs = [run for run in runs_in(tmp_path) if "seed" in run.data.params]
        undisturbed = {run.data.params["seed"]: run.data.tags[key] for run in runs}
        assert len(undisturbed) == 2 and undisturbed.items() <= tags(cluster, key).items()


def test_what_fails_costs_only_itself_and_ctrl_c_leaves_nothing_running(cluster):
    process = cluster.train(*QUICK, "training.batch_size=32,100000", log="failing.log")
    assert process.wait(timeout=120) == 1
    printed = cluster.log("failing.log")
    assert "error: 1 of 2 jobs failed" in printed and "job 1/2" in printed
    assert "training.batch_size=100000: must be at most the" in printed.rpartition("failed:")[2]
    sweep = cluster.folder / "stopped"
    command = (*JOBS, "seed=11", f"hydra.sweep.dir={sweep}")
    process = cluster.train(*command, log="stopped.log")
    under_way = sweep / "jobs" / "0.json"
    wait_until(lambda: under_way.exists() and json.loads(under_way.read_text())["epoch"], process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(timeout=60) == 130
    assert cluster.log("stopped.log").endswith("the same command, typed again\n")
    killed = "SELECT status, count(*) FROM runs WHERE status != 'FINISHED' GROUP BY status"
    assert dict(asked(cluster, killed)) == {"FAILED": 1, "KILLED": 2}
    again = cluster.train(*command[:-1], f"hydra.sweep.dir={sweep}-again", log="again.log")
    assert again.wait(timeout=120) == 0, cluster.log("again.log")
    assert " goes on: what is finished" in cluster.log("again.log")
    assert tags(cluster, "resumed")["11"] == "1"
