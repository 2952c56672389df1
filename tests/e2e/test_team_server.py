"""docs/team-server.md, done: one server for a team, who may do what, and where no secret goes."""

import io
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import mlflow
import psycopg
import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from conftest import ENVIRONMENT, PROJECT, QUICK, free_port, mlflow_server, train
from fmnist import store
from fmnist.__main__ import main
from fmnist.config import Tracking
from fmnist.ledger import MODEL, find_ledger, open_ledger
from fmnist.registry import CHAMPION, version_of

pytest.importorskip("flask_wtf", reason="needs mlflow[auth]; make test installs it")

pytestmark = pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi is deprecated")

SECRETS = {name: secrets.token_urlsafe(16) for name in ("admin", "trainer", "promoter", "reader")}
PASSWORDS = {name: f"{secret}/@" for name, secret in SECRETS.items()}  # to be quoted in a URI
COOKIES, WRONG = secrets.token_urlsafe(16), secrets.token_urlsafe(16)

AUTH = """
[mlflow]
default_permission = READ
database_uri = {database_uri}
admin_username = admin
auth_cache_ttl_seconds = 60
"""


@dataclass
class Team:
    """A server with an admin, a trainer, a promoter and a reader, and all that was printed."""

    uri: str
    databases: list[str]
    folder: Path
    printed: list[str] = field(default_factory=list)

    def credentials(self, name: str, password: str = "") -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": name,
            "MLFLOW_TRACKING_PASSWORD": password or PASSWORDS[name],
        }

    @property
    def uri_with_password(self) -> str:
        return self.uri.replace("//", f"//trainer:{quote(PASSWORDS['trainer'], safe='')}@")

    def train(self, folder: str, *overrides: str, timeout: float = 120, **variables: str):
        overrides = (*overrides, *QUICK, "tracking.uri=null")
        place = self.folder / folder
        return self._printed(train(*overrides, folder=place, timeout=timeout, **variables))

    def fmnist(self, name: str, *arguments: str):
        return self._printed(
            subprocess.run(
                [sys.executable, "-m", "fmnist", *arguments],
                cwd=PROJECT,
                env=ENVIRONMENT | self.credentials(name),
                capture_output=True,
                text=True,
                timeout=120,
            )
        )

    def _printed(self, done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
        self.printed += [done.stdout, done.stderr]
        return done


@pytest.fixture(scope="module")
def team(postgresql, tmp_path_factory) -> Iterator[Team]:
    """The server of docs/team-server.md, on databases of its own."""
    folder = tmp_path_factory.mktemp("team")
    with psycopg.connect(postgresql, autocommit=True) as connection:
        for name in ("team", "team_auth"):
            connection.execute(f"CREATE DATABASE {name}")
    database = postgresql.rpartition("/")[0]
    (folder / "auth.ini").write_text(AUTH.format(database_uri=f"{database}/team_auth"))
    options = ("--app-name", "basic-auth", "--backend-store-uri", f"{database}/team")
    variables = {
        "MLFLOW_AUTH_CONFIG_PATH": f"{folder}/auth.ini",
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": COOKIES,
    }
    with mlflow_server(folder, free_port(), *options, **variables) as uri:
        databases = [f"{database}/team", f"{database}/team_auth"]
        made = Team(uri, databases, folder)
        with pytest.MonkeyPatch.context() as environment:
            become(made, "admin", environment)
            give_permissions(made)
        yield made
    mlflow.set_tracking_uri(None)


def become(team: Team, name: str, environment: pytest.MonkeyPatch) -> None:
    for variable, value in team.credentials(name).items():
        environment.setenv(variable, value)
    mlflow.set_tracking_uri(team.uri)


def give_permissions(team: Team) -> None:
    """What an admin does once, as docs/team-server.md has it."""
    from mlflow.server.auth.client import AuthServiceClient

    opened = store.open_store(Tracking(None, "fmnist"))
    ledger = open_ledger(opened)
    admin = AuthServiceClient(team.uri)
    for name in ("trainer", "promoter", "reader"):
        admin.create_user(name, PASSWORDS[name])
    roles = {name: admin.create_role("default", name).id for name in ("trainer", "promoter")}
    for name, kind, which, permission in (
        ("trainer", "experiment", opened.experiment_id, "EDIT"),
        ("promoter", "experiment", ledger.experiment_id, "EDIT"),
        ("promoter", "registered_model", MODEL, "MANAGE"),
    ):
        admin.add_role_permission(roles[name], kind, which, permission)
    for name, role in roles.items():
        admin.assign_role(name, role)


@pytest.fixture
def as_user(team, monkeypatch):
    """`as_user(name)`: from now on, in this process, MLflow's calls are those of this user."""
    return lambda name: become(team, name, monkeypatch)


def all_runs() -> list[Run]:
    client = mlflow.MlflowClient()
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


@pytest.fixture(scope="module")
def studies(team) -> list[subprocess.CompletedProcess[str]]:
    """Two small studies, by a trainer who has the password in a variable and in the URI."""
    known = {
        "0.01": team.credentials("trainer"),
        "0.1": {"MLFLOW_TRACKING_URI": team.uri_with_password},
    }

    def sweep(rate: str) -> subprocess.CompletedProcess[str]:
        return team.train(rate, "-m", "seed=1", f"optimizer.learning_rate={rate}", **known[rate])

    with ThreadPoolExecutor() as pool:
        return list(pool.map(sweep, known))


def study_of(done: subprocess.CompletedProcess[str]) -> str:
    return re.search(r"^again:       python -m fmnist compare (\w+)$", done.stdout, re.M)[1]


@pytest.fixture(scope="module")
def champions(team, studies) -> None:
    """Each of the two models became the champion, by the promoter."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as environment, redirect_stdout(printed):
        become(team, "promoter", environment)
        for done in studies:
            main(["promote", study_of(done), "--first"])
    team.printed.append(printed.getvalue())


def test_what_a_trainer_makes_is_on_the_server(team, studies, as_user):
    for done in studies:
        assert done.returncode == 0, done.stderr
        assert f"look at it:  {team.uri}/#/experiments/1/runs/" in done.stdout
    as_user("reader")
    runs = [run for run in all_runs() if "model" in run.data.params]
    assert {run.data.params["optimizer.learning_rate"] for run in runs} == {"0.01", "0.1"}
    for run in runs:
        assert run.info.status == "FINISHED" and run.data.metrics["best_val_accuracy"] > 0
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        overrides = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/config/overrides.yaml")
        assert "data=digits" in overrides
        [model] = run.outputs.model_outputs
        assert mlflow.pyfunc.load_model(f"models:/{model.model_id}").metadata.signature


def test_who_may_not_train_is_told_before_anything_is_loaded(team, as_user):
    as_user("admin")
    before = len(all_runs())
    unknown = "experiments/get-by-name (401): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASS"
    refused = [
        ({"MLFLOW_TRACKING_URI": team.uri}, unknown),
        (team.credentials("trainer", WRONG), unknown),
        (team.credentials("reader"), "experiments/update (403): this user may not do that"),
    ]
    for variables, message in refused:
        done = team.train("refused", timeout=30, PYTHONPROFILEIMPORTTIME="1", **variables)
        assert (done.returncode, done.stdout) == (1, "")
        lines = done.stderr.splitlines()
        imported = {line.rpartition("| ")[2].strip() for line in lines if "import time:" in line}
        assert "mlflow" in imported and "tensorflow" not in imported
        [line] = [line for line in lines if "import time:" not in line]
        assert line.startswith(f"error: tracking store {team.uri}: the server refuses {message}")
    assert len(all_runs()) == before


def test_a_reader_reads_and_cannot_move_the_alias(team, studies, champions, as_user):
    as_user("reader")
    assert version_of(CHAMPION) == "2"
    runs = len(all_runs())
    promote = ["promote", study_of(studies[0]), "--first"]
    commands = (["history"], ["compare"], ["ui", "--no-browser"], promote, ["rollback"])
    with ThreadPoolExecutor(2) as pool:
        history, compared, shown, *refused = pool.map(lambda c: team.fmnist("reader", *c), commands)
    assert history.returncode == 0 and "version 2" in history.stdout, history.stderr
    assert compared.returncode == 0 and "best_val_accuracy %" in compared.stdout, compared.stderr
    assert shown.returncode == 0 and "/runs?workflowType=" in shown.stderr, shown.stderr
    for done in refused:
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert re.match(r"error: the server refuses \S+ \(403\): this user may not do that", line)
    for name in ("reader", "trainer"):
        as_user(name)
        client = mlflow.MlflowClient()
        with pytest.raises(MlflowException, match="error code 403"):
            client.set_registered_model_alias(MODEL, CHAMPION, "1")
        with pytest.raises(MlflowException, match="error code 403"):
            client.delete_registered_model_alias(MODEL, CHAMPION)
        with pytest.raises(MlflowException, match="error code 403"):
            find_ledger().append(2, "forged")
    assert version_of(CHAMPION) == "2" and len(all_runs()) == runs


def test_a_failed_request_does_not_tell_the_password_of_the_uri(team, as_user, monkeypatch):
    as_user("reader")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", team.uri_with_password)
    assert store.existing_store(None).uri == team.uri
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == PASSWORDS["trainer"]
    with pytest.raises(MlflowException, match=r"nowhere\.txt") as failed:
        mlflow.artifacts.load_text("mlflow-artifacts:/1/nowhere.txt")
    assert SECRETS["trainer"] not in str(failed.value)


def test_no_secret_is_in_the_databases_the_files_or_what_was_printed(team, studies, champions):
    places = {"printed": "".join(team.printed).encode()}
    places |= {database: content(database).encode() for database in team.databases}
    places |= {str(p): p.read_bytes() for p in team.folder.rglob("*") if p.is_file()}
    known = {place for place, text in places.items() if b"data=digits" in text}
    assert {team.databases[0]} < known
    assert {Path(place).name for place in known} >= {"overrides.yaml", "multirun.yaml"}
    assert "trainer" in content(team.databases[1])
    for secret in (*SECRETS.values(), COOKIES, WRONG):
        assert [place for place, text in places.items() if secret.encode() in text] == []


def content(database: str) -> str:
    """All rows of all tables, as text."""
    with psycopg.connect(database) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows = (
            row
            for (table,) in tables.fetchall()
            for (row,) in connection.execute(f'SELECT t::text FROM "{table}" t')
        )
        return "\n".join(rows)
