"""What a command reads does not grow with the other runs in the store."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
from mlflow.store.tracking.dbmodels.models import SqlLoggedModel, SqlRun
from sqlalchemy import Engine, create_engine, event, update

from conftest import QUICK, composed, copy_store
from copies import Original, fill
from fmnist.cli import main
from fmnist.config import schema
from fmnist.config.instantiate import instantiate
from fmnist.config.schema import Tracking
from fmnist.evidence.comparison import StudyDesign
from fmnist.registry import promotion
from fmnist.runs import resume
from fmnist.runs.run import with_threads
from fmnist.tracking import store_checks, studies, tag
from fmnist.tracking.job_context import JobContext
from fmnist.tracking.store import Store, existing_store

FEW, MANY = 2, 50  # other studies
READ = (SqlRun, SqlLoggedModel)


@pytest.fixture(scope="module")
def crowded(study: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """The addresses of stores with a study and few or many others, which are copies of it."""
    uris = {}
    for others in (FEW, MANY):
        folder = tmp_path_factory.mktemp("crowded")
        copy_store(study, folder)
        uris[others] = f"sqlite:///{folder}/mlflow.db"
        fill(uris[others], Original.of(uris[others]), range(1, others + 1))
    return uris


@contextmanager
def reading() -> Iterator[Counter]:
    """Count the statements that are executed, and the rows of runs and models that come of them."""
    counts: Counter = Counter()
    listeners = [
        (Engine, "after_cursor_execute", lambda *_: counts.update(["statements"])),
        *((entity, "load", lambda one, _: counts.update([type(one).__name__])) for entity in READ),
    ]
    for listener in listeners:
        event.listen(*listener)
    try:
        yield counts
    finally:
        for listener in listeners:
            event.remove(*listener)


def compare(store: Store) -> None:
    main.main(["compare"])


def page(store: Store) -> None:
    main.main(["compare", "--format", "html"])


def promote(store: Store) -> None:
    promotion.promote(store, studies.latest(store), schema.promotion(), dry_run=True)


def begin_a_sweep(store: Store) -> None:
    asked = mlflow.get_run(studies.latest(store)).data.tags[tag.SIGNATURE]
    sweep = studies.Sweep("x", "/", "x", None, 1, signature=asked)
    opened = studies.begin(Tracking(store.uri, "fmnist"), StudyDesign(), sweep)
    mlflow.MlflowClient().delete_run(opened.run_id)


def find_the_earlier_self(store: Store) -> None:
    asked = composed(Path("/"), "+experiment=quick", *QUICK, "model=relu", "seed=1")
    latest = mlflow.get_run(studies.latest(store))
    dataset = instantiate("data", asked.data)
    found = resume.of_study(store, latest.info.run_id, with_threads(asked, JobContext()), dataset)
    assert found and found.info.status == "FINISHED"


@pytest.mark.slow
@pytest.mark.parametrize("command", [compare, page, promote, begin_a_sweep, find_the_earlier_self])
def test_it_reads_as_much_beside_many_studies_as_beside_few(crowded, monkeypatch, command):
    read = {}
    for others, uri in crowded.items():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        store = existing_store("fmnist")  # MLflow looks at the whole database when it opens it
        with reading() as read[others]:
            command(store)
    assert read[FEW]["SqlRun"]
    assert read[FEW] == read[MANY]


def test_a_model_half_logged_is_found_behind_many_whole_ones(crowded):
    mlflow.set_tracking_uri(crowded[MANY])
    client = mlflow.MlflowClient()
    run = client.create_run("1").info.run_id
    client.set_terminated(run, "KILLED")
    half = client.create_logged_model("1", source_run_id=run).model_id
    with create_engine(crowded[MANY]).begin() as connection:
        first = update(SqlLoggedModel).where(SqlLoggedModel.model_id == half)
        connection.execute(first.values(creation_timestamp_ms=0))
    assert store_checks.half_logged_models() == [half]
