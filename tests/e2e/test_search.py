"""A search: `python train.py -m +experiment=search`, stopped once and gone on with."""

import json
import os
import signal
import time

import mlflow
import pytest

from commands import Command
from conftest import ENVIRONMENT, QUICK, runs_in, started, train
from fmnist.sweeps.journal import open_study

pytestmark = pytest.mark.slow

TRIALS, FRESH, EPOCHS = 8, (101, 102), 4
SEARCH = (
    "-m",
    "+experiment=search",
    *QUICK[:-1],
    f"training.epochs={EPOCHS}",
    "training.engine=keras",  # which need not compile each network
    "model.depth=range(1,4)",
    "model.width=range(20,41,10)",
    "model=selu",
    "optimizer=sgd,adam",
    "optimizer.learning_rate=tag(log,interval(0.02,0.3))",  # it begins with 0.01, which is too slow
    f"hydra.sweeper.trials={TRIALS}",
    "hydra.sweeper.batch=4",
    f"hydra.sweeper.fresh_seeds=[{','.join(map(str, FRESH))}]",
)


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """The folder of a search, its trials when it was killed, and what it printed in the end."""
    folder = tmp_path_factory.mktemp("search")
    process = started(folder, *SEARCH)
    second = folder / "output" / "jobs" / "4.json"
    until = time.monotonic() + 900
    while not (second.exists() and json.loads(second.read_text())["epoch"]):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = open_study(str(folder / "output")).trials
    # The trials go on whatever launches them: here one after another.
    again = ("hydra/launcher=basic", f"hydra.sweep.dir={folder}/again")
    done = train(*SEARCH, *again, folder=folder, timeout=1500)
    assert done.returncode == 0, done.stderr
    return folder, before, done.stdout


def fmnist(folder, *arguments):
    uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    return Command(["-m", "fmnist", *arguments], ENVIRONMENT | uri).completed(600)


def trials_and_others(folder):
    """The runs of trials by their number, and the others that trained."""
    runs = [run for run in runs_in(folder) if "seed" in run.data.params]
    trials = {int(r.data.tags["search.trial"]): r for r in runs if "search.trial" in r.data.tags}
    return trials, [run for run in runs if "search.trial" not in run.data.tags]


def test_a_killed_search_goes_on_with_the_trials_that_it_had(search):
    folder, before, printed = search
    assert "resumes: finished runs are not trained again" in printed
    assert len(before) == TRIALS and not all(trial.state.is_finished() for trial in before)
    after = open_study(str(folder / "again")).trials
    assert [trial.params for trial in after] == [trial.params for trial in before]
    for was, now in zip(before, after, strict=True):
        assert now.state.is_finished()
        assert not was.state.is_finished() or now == was
    trials, _ = trials_and_others(folder)
    assert sorted(trials) == list(range(TRIALS))  # none has a second run


def test_each_trial_is_a_run_and_a_pruned_one_ends_early_and_in_order(search):
    folder, _, _ = search
    trials, _ = trials_and_others(folder)
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    stopped = 0
    for trial in open_study(str(folder / "again")).trials:
        run = trials[trial.number]
        assert (run.info.status, run.data.params["seed"]) == ("FINISHED", "42")
        assert float(run.data.params["optimizer.learning_rate"]) == pytest.approx(
            trial.params["optimizer.learning_rate"], rel=0.01
        )
        history = client.get_metric_history(run.info.run_id, "val_accuracy")
        assert {p.step: p.value for p in history} == pytest.approx(trial.intermediate_values)
        epochs = int(run.data.tags.get("search.stopped", EPOCHS))
        assert len(history) == epochs
        stopped += epochs < EPOCHS
        assert (trial.state.name == "PRUNED") == (epochs < EPOCHS)
        assert run.data.metrics["best_val_accuracy"] > 0 and run.outputs.model_outputs
    assert 0 < stopped < TRIALS


def test_the_best_is_run_over_fresh_seeds_and_its_luck_is_reported(search):
    folder, _, printed = search
    journal = open_study(str(folder / "again"))
    best, began = journal.best_trial, journal.trials[0]
    assert best.number > 0
    assert began.params["model.width"] == 30 and began.params["optimizer.learning_rate"] == 0.01
    _, others = trials_and_others(folder)
    assert sorted(int(run.data.params["seed"]) for run in others) == sorted(FRESH * 2)
    rate = f"{best.params['optimizer.learning_rate']:.3g}"
    new = [run for run in others if run.data.params["optimizer.learning_rate"] == rate]
    assert len(new) == len(FRESH)
    mean = sum(run.data.metrics["best_val_accuracy"] for run in new) / len(new)
    [parent] = [run for run in runs_in(folder) if "study" in run.data.tags]
    drop = parent.data.metrics["search_drop"]
    assert drop == pytest.approx(journal.best_value - mean)
    direction = "less" if drop > 0 else "more"
    sentence = f"Trial {best.number} is the best of the search: {100 * journal.best_value:.2f} %."
    assert sentence in printed
    assert f"{abs(100 * drop):.2f} points {direction}" in printed.splitlines()[-1]
    assert sentence in parent.data.tags["mlflow.note.content"]
    assert f"\n| trial {best.number} " in printed and "\n| start " in printed
    artifacts = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").list_artifacts(
        parent.info.run_id, "search"
    )
    names = {artifact.path for artifact in artifacts}
    assert names == {f"search/{n}" for n in ("search.md", "trials.csv", "trials.png")} | {
        "search/search.journal"
    }


def test_its_best_is_promoted_like_any_other_and_trials_are_no_evidence(search):
    folder, _, _ = search
    best = open_study(str(folder / "again")).best_trial.number
    done = fmnist(folder, "promote", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"| challenger | trial {best} " in done.stdout
    assert f"trial {best}: {len(FRESH)} finished" in done.stdout


def test_a_pruned_trial_is_reproduced_as_far_as_it_went(search):
    folder, _, _ = search
    trials, _ = trials_and_others(folder)
    stopped = [run for run in trials.values() if "search.stopped" in run.data.tags]
    epochs = stopped[0].data.tags["search.stopped"]
    done = fmnist(folder, "reproduce", stopped[0].info.run_id)
    last = f"bit-for-bit identical: weights and metrics of every epoch ({epochs})\n"
    assert (done.returncode, done.stdout.endswith(last)) == (0, True), done.stdout
