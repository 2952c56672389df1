"""Promotions that race and promotions that are killed leave one champion and whole decisions."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from multiprocessing.synchronize import Barrier
from pathlib import Path

import mlflow
import pytest
from mlflow.store.db.base_sql_model import Base
from sqlalchemy import create_engine

from commands import processes
from conftest import check_here, copy_store
from fmnist.config import schema
from fmnist.registry import promotion, validation, versions
from fmnist.registry.decision import Outcome
from fmnist.registry.decision_log import find_decision_log, open_decision_log
from fmnist.tracking import studies
from fmnist.tracking.store import Store

MODEL = "fmnist-digits"  # of digits in the experiment fmnist
pytestmark = pytest.mark.usefixtures("checks_in_this_process")
WRITES = (
    *("create_run", "log_text", "log_param", "set_terminated", "set_registered_model_alias"),
    *("create_model_version", "set_model_version_tag", "update_model_version", "set_tag"),
    *("delete_registered_model_alias", "delete_tag", "log_batch", "log_metric", "update_run"),
)
"""Of MLflow's client, all that a promotion calls."""

WRITES_OF_A_PROMOTION = 9


def promote(uri: str, index: int, first: bool = False):
    """Promote from the study at an index, counted from 0."""
    mlflow.set_tracking_uri(uri)
    store = Store(uri, mlflow.get_experiment_by_name("fmnist").experiment_id)
    study_id = studies.all_studies(store)[index].run_id
    return promotion.promote(store, study_id, schema.promotion(), first=first)


def promote_at_once(uri: str, index: int, barrier: Barrier) -> None:
    """Promote, but commit the first decision only when the other process has decided, too."""
    validation.check_in_fresh_process = check_here
    commit = promotion.commit
    waited = []

    def late(*arguments):
        if not waited:
            waited.append(True)
            barrier.wait(60)
        return commit(*arguments)

    promotion.commit = late
    promote(uri, index)


def register_at_once(uri: str, index: int, barrier: Barrier) -> None:
    """Promote, but register a version only when the other process is about to, too."""
    validation.check_in_fresh_process = check_here
    create = mlflow.MlflowClient.create_model_version

    def late(*arguments, **options):
        barrier.wait(60)
        return create(*arguments, **options)

    mlflow.MlflowClient.create_model_version = late
    promote(uri, index, first=True)


def promote_and_die(uri: str, index: int, before: int) -> None:
    """Promote, and be killed before the write of that number, counted from 1."""
    validation.check_in_fresh_process = check_here
    number = count(1)

    def deadly(write):
        def call(*arguments, **options):
            if next(number) == before:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*arguments, **options)

        return call

    for name in WRITES:
        setattr(mlflow.MlflowClient, name, deadly(getattr(mlflow.MlflowClient, name)))
    promote(uri, index)


def champion() -> int:
    return versions.version_of(MODEL, "champion")


def all_versions() -> list[int]:
    registered = mlflow.MlflowClient().search_model_versions(f"name = '{MODEL}'")
    return sorted(int(version.version) for version in registered)


def decisions() -> list[tuple[str, str | None, str | None]]:
    """Return of each decision the outcome and the champion before and after."""
    tags = [run.data.tags for run in find_decision_log(MODEL).decisions()]
    return [(tag["outcome"], tag.get("replaced"), tag.get("champion")) for tag in tags]


def two_at_once(uri: str) -> None:
    """Let two processes replace the same champion, and look at what they leave."""
    promote(uri, 0, first=True)
    barrier = processes.Barrier(2)
    racing = [processes.Process(target=promote_at_once, args=(uri, n, barrier)) for n in (1, 2)]
    for process in racing:
        process.start()
    for process in racing:
        process.join(120)
    assert [process.exitcode for process in racing] == [0, 0]
    first, second, third = decisions()
    assert first == ("promoted", None, "1")
    assert second[:2] == ("promoted", "1")
    assert third[1] == second[2]  # it was decided against the champion that it names
    assert third[2] == str(champion())
    best = mlflow.get_run(versions.run_id_of(MODEL, champion())).data.params[
        "optimizer.learning_rate"
    ]
    assert best == "0.1"
    experiment = find_decision_log(MODEL).experiment_id
    runs = mlflow.search_runs([experiment], "tags.outcome LIKE '%'", output_format="list")
    assert sorted(run.info.status for run in runs) == ["FINISHED"] * 3 + ["KILLED"]
    assert [run.info.status for run in runs if run.data.tags["outcome"] == "stale"] == ["KILLED"]


def test_two_promotions_at_once_on_sqlite(copied_rates):
    two_at_once(f"sqlite:///{copied_rates}/mlflow.db")


@pytest.mark.slow
def test_two_promotions_at_once_on_postgresql(postgresql, rates):
    copy_rows(f"sqlite:///{rates}/mlflow.db", postgresql)
    two_at_once(postgresql)


def copy_rows(uri: str, target: str) -> None:
    """Copy a store into an empty one on PostgreSQL; the artifacts serve both."""
    mlflow.MlflowClient(target).search_experiments()  # makes the tables, and two rows
    tables = Base.metadata.sorted_tables
    with create_engine(uri).connect() as old, create_engine(target).begin() as new:
        for table in reversed(tables):
            new.execute(table.delete())
        for table in tables:
            if rows := [dict(row) for row in old.execute(table.select()).mappings()]:
                new.execute(table.insert(), rows)
        sequence = "pg_get_serial_sequence('experiments', 'experiment_id')"
        new.exec_driver_sql(f"SELECT setval({sequence}, max(experiment_id)) FROM experiments")


def test_the_same_promotion_twice_at_once_makes_one_version(copied_rates):
    uri = f"sqlite:///{copied_rates}/mlflow.db"
    open_decision_log(Store(uri, "1"), MODEL)
    barrier = processes.Barrier(2)
    racing = [processes.Process(target=register_at_once, args=(uri, 1, barrier)) for _ in range(2)]
    for process in racing:
        process.start()
    for process in racing:
        process.join(120)
    # one of them finds that there is a champion by now, for which --first is no answer
    assert sorted(process.exitcode for process in racing) == [0, 1]
    mlflow.set_tracking_uri(uri)
    assert all_versions() == [champion()] and decisions() == [("promoted", None, str(champion()))]


def killed_at(write: int, champion_store: Path, folder: Path) -> tuple[str, int | None]:
    """Copy a store with a champion and let a promotion in it be killed; return store and status."""
    copy_store(champion_store, folder / str(write))
    uri = f"sqlite:///{folder / str(write)}/mlflow.db"
    process = processes.Process(target=promote_and_die, args=(uri, 2, write))
    process.start()
    process.join(120)
    return uri, process.exitcode


@pytest.mark.slow
def test_a_promotion_killed_between_any_two_steps_is_finished_by_the_next(copied_rates, tmp_path):
    assert promote(f"sqlite:///{copied_rates}/mlflow.db", 1, first=True).champion == 1
    seen, statuses = set(), []
    with ThreadPoolExecutor(2) as two:
        for uri, status in two.map(
            lambda write: killed_at(write, copied_rates, tmp_path),
            range(1, WRITES_OF_A_PROMOTION + 2),
        ):
            statuses.append(status)
            mlflow.set_tracking_uri(uri)
            seen.add((champion(), decisions()[-1][0]))
            assert mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
            again = promote(uri, 2)
            assert champion() == 2 and all_versions() == [1, 2]
            runs = find_decision_log(MODEL).decisions()
            promoted = [run for run in runs if run.data.tags["outcome"] == "promoted"]
            assert [run.data.tags["version"] for run in promoted] == ["1", "2"]
            assert {run.info.status for run in runs} == {"FINISHED"}
            tags = versions.find_version(MODEL, 2).tags
            assert (tags["outcome"], tags["decision"]) == ("promoted", promoted[1].info.run_id)
            assert again.outcome is (Outcome.promoted if len(runs) == 2 else Outcome.kept)
    assert statuses == [-signal.SIGKILL] * WRITES_OF_A_PROMOTION + [0]
    # before the decision; decided, but the old champion still serves; the new one serves
    assert seen == {(1, "promoted"), (2, "promoted")}


def test_an_entry_is_written_once(copied_rates):
    opened = Store(f"sqlite:///{copied_rates}/mlflow.db", "1")
    log = open_decision_log(opened, MODEL)
    assert open_decision_log(opened, MODEL) == log
    assert log.append(0, "a") and log.append(0, "a")
    assert not log.append(0, "b")


def test_a_write_that_fails_is_no_decision(copied_rates):
    log = open_decision_log(Store(f"sqlite:///{copied_rates}/mlflow.db", "1"), MODEL)
    mlflow.MlflowClient().delete_run(log.run_id)
    with pytest.raises(mlflow.MlflowException):
        log.append(0, "a")
