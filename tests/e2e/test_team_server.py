"""deploy/, done: one server for a team, who may do what, and where no secret goes."""

import hashlib
import http.client
import io
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import mlflow
import numpy as np
import psycopg
import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from commands import Command
from conftest import ENVIRONMENT, PROJECT, QUICK, answering, free_port, train_command
from deploy import users
from fmnist.cli.main import main
from fmnist.common.errors import ConfigError
from fmnist.config.schema import EPOCH_METRICS, SCORES
from fmnist.registry.decision_log import find_decision_log
from fmnist.registry.model_names import DEFAULT
from fmnist.registry.versions import CHAMPION, version_of
from fmnist.tracking import store, tag
from fmnist.tracking.model import verified
from fmnist.tracking.run_inputs import config_of_run
from fmnist.tracking.run_log import DIGESTS

Done = subprocess.CompletedProcess[str]

pytest.importorskip("flask_wtf", reason="needs mlflow[auth]; make test installs it")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi is deprecated"),
]

NAME = "mlflow.example.org"
ROLES = {"trainer": ["trainer"], "promoter": ["promoter"], "reader": []}
SECRETS = {name: secrets.token_urlsafe(16) for name in ROLES}
PASSWORDS = {name: f"{secret}/@" for name, secret in SECRETS.items()}  # to be quoted in a URI
WRONG = secrets.token_urlsafe(16)
HEALTH = ("gradient_norm", "gradient_ratio", "dead_units")
OF_EPOCHS = (*sorted(EPOCH_METRICS), "learning_rate", "epoch_seconds", *HEALTH)
OF_RUN = {f"{weights}_{score}" for weights in ("best", "last") for score in SCORES}
OF_RUN |= {"best_epoch", "fit_seconds", "parameters"}
SIZED = (*QUICK[:-1], "training.epochs=5")


@dataclass
class Team:
    """A server with an admin, a trainer, a promoter and a reader, and all that was printed."""

    uri: str
    databases: list[str]
    folder: Path
    settings: dict[str, str]
    printed: list[str] = field(default_factory=list)

    def credentials(self, name: str, password: str = "") -> dict[str, str]:
        passwords = PASSWORDS | {"admin": self.settings["MLFLOW_AUTH_ADMIN_PASSWORD"]}
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": name,
            "MLFLOW_TRACKING_PASSWORD": password or passwords[name],
        }

    @property
    def uri_with_password(self) -> str:
        return self.uri.replace("//", f"//trainer:{quote(PASSWORDS['trainer'], safe='')}@")

    def command(self, folder: str, *overrides: str) -> list[str]:
        overrides = (*overrides, *SIZED, "tracking.uri=null")
        return train_command(self.folder / folder, *overrides)[1:]

    def type(self, *command: str, **variables: str) -> Done:
        [done] = self.type_at_once([(command, variables)])
        return done

    def type_at_once(self, commands: Sequence[tuple[Sequence[str], dict[str, str]]]) -> list[Done]:
        started = [Command(command, ENVIRONMENT | variables) for command, variables in commands]
        done = [process.completed(timeout=400) for process in started]
        self.printed += [text for one in done for text in (one.stdout, one.stderr)]
        return done


@pytest.fixture(scope="module")
def team(postgresql, tmp_path_factory) -> Iterator[Team]:
    """The server of docs/team-server.md, set up by the very files of deploy/."""
    folder, port = tmp_path_factory.mktemp("team"), free_port()
    asked = ["sh", "deploy/secrets.sh", NAME, f"{folder}/.env"]
    subprocess.run(asked, cwd=PROJECT, check=True)
    lines = (folder / ".env").read_text().splitlines()
    (folder / ".env").unlink()
    settings = dict(line.split("=", 1) for line in lines)
    sql = ["psql", postgresql, "--set=ON_ERROR_STOP=1", "--file=deploy/databases.sql"]
    subprocess.run(sql, cwd=PROJECT, env=ENVIRONMENT | settings, check=True)
    server, _, _ = postgresql.rpartition("/")
    variables = settings | {
        "PATH": f"{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}",
        "PGPORT": server.rpartition(":")[2],
        "MLFLOW_PORT": str(port),
        "MLFLOW_ARTIFACTS_DESTINATION": f"{folder}/artifacts",
    }
    log = folder / "server.log"
    with answering(["sh", "deploy/server.sh"], port, log, **variables) as uri:
        databases = [f"{server}/{name}" for name in ("mlflow", "mlflow_auth")]
        made = Team(uri, databases, folder, settings)
        with pytest.MonkeyPatch.context() as environment:
            give_permissions(made, environment)
        yield made
    mlflow.set_tracking_uri(None)


def become(team: Team, name: str, environment: pytest.MonkeyPatch, password: str = "") -> None:
    for variable, value in team.credentials(name, password).items():
        environment.setenv(variable, value)
    mlflow.set_tracking_uri(team.uri)


def give_permissions(team: Team, environment: pytest.MonkeyPatch) -> None:
    """As docs/team-server.md has it: roles, users, and each user's own password."""
    first = {}
    become(team, "admin", environment)
    users.main(["roles"])
    for name, roles in ROLES.items():
        with redirect_stdout(io.StringIO()) as printed:
            users.main(["add", name, *roles])
        first[name] = printed.getvalue().strip()
    for name in ROLES:
        become(team, name, environment, first[name])
        environment.setattr(sys, "stdin", io.StringIO(f"{PASSWORDS[name]}\n"))
        users.main(["password"])


@pytest.fixture
def as_user(team, monkeypatch):
    """`as_user(name)`: from now on, in this process, MLflow's calls are those of this user."""
    return lambda name: become(team, name, monkeypatch)


def all_runs() -> list[Run]:
    client = mlflow.MlflowClient()
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


@pytest.fixture(scope="module")
def trained(team) -> dict[str, Done]:
    """Eight trainers at once: two small studies, whose first seed is 1, and six runs of others.

    One of them has the password in the URI, the others have it in a variable.
    """
    rates = {rate: ("-m", "seed=1", f"optimizer.learning_rate={rate}") for rate in ("0.01", "0.1")}
    asked = rates | {f"seed{seed}": (f"seed={seed}",) for seed in range(2, 8)}
    known = dict.fromkeys(asked, team.credentials("trainer"))
    known["0.1"] = {"MLFLOW_TRACKING_URI": team.uri_with_password}
    commands = [(team.command(name, *asked[name]), known[name]) for name in asked]
    return dict(zip(asked, team.type_at_once(commands), strict=True))


@pytest.fixture(scope="module")
def studies(trained) -> list[Done]:
    return [trained["0.01"], trained["0.1"]]


def study_of(done: Done) -> str:
    return re.search(r"^again:       python -m fmnist compare (\w+)$", done.stdout, re.M)[1]


@pytest.fixture(scope="module")
def champions(team, studies) -> None:
    """Each of the two models became the champion, by the promoter."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as environment, redirect_stdout(printed):
        become(team, "promoter", environment)
        for done in studies:
            main(["promote", study_of(done), "--first", "--model", DEFAULT])
    team.printed.append(printed.getvalue())


def test_what_a_trainer_makes_is_on_the_server(team, studies, as_user):
    for done in studies:
        assert done.returncode == 0, done.stderr
        assert f"look at it:  {team.uri}/#/experiments/1/runs/" in done.stdout
    as_user("reader")
    runs = [run for run in all_runs() if run.data.params.get("seed") == "1"]
    assert {run.data.params["optimizer.learning_rate"] for run in runs} == {"0.01", "0.1"}
    for run in runs:
        assert run.info.status == "FINISHED" and run.data.metrics["best_val_accuracy"] > 0
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        overrides = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/config/overrides.yaml")
        assert "data=digits" in overrides
        [model] = run.outputs.model_outputs
        assert mlflow.pyfunc.load_model(f"models:/{model.model_id}").metadata.signature


def test_all_that_eight_trainers_send_at_once_arrives_once(team, trained, as_user):
    as_user("reader")
    runs = [run for run in all_runs() if "model" in run.data.params]
    assert [run.info.status for run in runs] == ["FINISHED"] * 8
    assert {asked_of(run) for run in runs} == {
        ("0.1", "1"),
        *(("0.01", str(n)) for n in range(1, 8)),
    }
    points = {run.info.run_id: points_of(run) for run in runs}
    assert rows_of_runs(team, "metrics") == points
    epochs = sum(len(re.findall(r"^epoch +\d+/", d.stdout, re.M)) for d in trained.values())
    assert epochs == 8 * 5  # as the terminals of the eight say
    assert sum(points.values()) == epochs * len(OF_EPOCHS) + 8 * len(OF_RUN) == 448
    assert rows_of_runs(team, "params") == {run.info.run_id: len(params_of(run)) for run in runs}
    files = [files_of(run, team) for run in runs]
    assert files == files[:1] * 8 and len(files[0]) > 20
    for run in runs:
        [model] = run.outputs.model_outputs
        with verified(f"models:/{model.model_id}", run.data.tags[tag.MODEL_DIGEST]) as folder:
            assert (folder / "data/model.keras").exists()


def asked_of(run: Run) -> tuple[str, str]:
    return run.data.params["optimizer.learning_rate"], run.data.params["seed"]


def points_of(run: Run) -> int:
    """How many points a run has: of each epoch those that it recorded the digest of."""
    client, run_id = mlflow.MlflowClient(), run.info.run_id
    recorded = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/{DIGESTS}")["epochs"]
    assert run.data.metrics.keys() == {*OF_EPOCHS, *OF_RUN}
    histories = {name: client.get_metric_history(run_id, name) for name in OF_EPOCHS}
    for history in histories.values():
        assert [point.step for point in history] == list(range(1, len(recorded) + 1))
    for epoch, digests in enumerate(recorded):
        values = {name: history[epoch].value for name, history in histories.items()}
        del values["epoch_seconds"]
        values |= {name: float(np.float32(values[name])) for name in EPOCH_METRICS}
        assert hashlib.sha256(json.dumps(values).encode()).hexdigest() == digests["metrics"]
    return len(OF_EPOCHS) * len(recorded) + len(OF_RUN)


def params_of(run: Run) -> dict[str, str]:
    """The params of a run, which are those of the configuration that it recorded, and choices."""
    config = config_of_run(run, "output", None)
    expected = {key: str(value) for key, value in config.params().items()}
    choices = {key: run.data.params[key] for key in ("model", "data", "optimizer", "callbacks")}
    assert run.data.params == expected | choices
    return run.data.params


def files_of(run: Run, team: Team) -> list[str]:
    """The files of a run on the server; in names of pictures without what no two have alike."""
    folder = team.folder / "artifacts" / run.info.artifact_uri.removeprefix("mlflow-artifacts:/")
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return sorted(re.sub(r"\+timestamp\+\d+\+[\da-f-]+", "", name) for name in names)


def rows_of_runs(team: Team, table: str) -> dict[str, int]:
    """How many rows a table has of each run of the experiment."""
    counted = f"SELECT run_uuid, count(*) FROM {table} JOIN runs USING (run_uuid)"
    of_trainers = "WHERE experiment_id = 1 GROUP BY run_uuid"
    with psycopg.connect(team.databases[0]) as connection:
        return dict(connection.execute(f"{counted} {of_trainers}").fetchall())


def test_who_may_not_train_is_told_before_anything_is_loaded(team, as_user):
    as_user("admin")
    before = len(all_runs())
    unknown = "experiments/get-by-name (401): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASS"
    for password in ("", WRONG):
        known = (
            team.credentials("trainer", WRONG) if password else {"MLFLOW_TRACKING_URI": team.uri}
        )
        done = team.type(*team.command("refused"), **known)
        assert_refused(team, done.returncode, done.stdout, done.stderr.splitlines(), unknown)
    reader = team.credentials("reader") | {"PYTHONPROFILEIMPORTTIME": "1"}
    command = [sys.executable, *team.command("refused")]
    done = subprocess.run(
        command, cwd=PROJECT, env=ENVIRONMENT | reader, capture_output=True, text=True
    )
    team.printed += [done.stdout, done.stderr]
    lines = done.stderr.splitlines()
    imported = {line.rpartition("| ")[2].strip() for line in lines if "import time:" in line}
    assert "mlflow" in imported and "tensorflow" not in imported
    told = [line for line in lines if "import time:" not in line]
    may_not = "experiments/update (403): this user may not do that"
    assert_refused(team, done.returncode, done.stdout, told, may_not)
    assert len(all_runs()) == before


def assert_refused(team: Team, status: int, stdout: str, told: list[str], message: str) -> None:
    [line] = told
    assert line.startswith(f"error: tracking store {team.uri}: the server refuses {message}")
    assert (status, stdout) == (1, "")


@pytest.mark.parametrize(("host", "status"), [(NAME, 401), ("rebound.example.org", 403)])
def test_requests_for_another_name_than_the_servers_are_refused(team, host, status):
    connection = http.client.HTTPConnection(team.uri.removeprefix("http://"), timeout=10)
    page = "/api/2.0/mlflow/experiments/get?experiment_id=1"
    connection.request("GET", page, headers={"Host": host})
    assert connection.getresponse().status == status
    connection.close()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("admin", ["add", "trainer"], "user trainer: is there already"),
        ("admin", ["add", "anna", "trainr"], "role trainr: choose one of promoter, trainer"),
        ("promoter", ["add", "anna"], "endpoint /api/3.0/mlflow/roles/list failed .* 403"),
    ],
)
def test_users_are_added_once_with_known_roles_by_an_admin(as_user, name, arguments, message):
    as_user(name)
    with pytest.raises((ConfigError, MlflowException), match=message):
        users.main(arguments)


def test_a_reader_reads_and_cannot_move_the_alias(team, studies, champions, as_user):
    as_user("reader")
    assert version_of(DEFAULT, CHAMPION) == 2
    runs = len(all_runs())
    promote = ["promote", study_of(studies[0]), "--first", "--model", DEFAULT]
    commands = (["history"], ["compare"], ["ui", "--no-browser"], promote, ["rollback"])
    reader = team.credentials("reader")
    history, compared, shown, *refused = (team.type("-m", "fmnist", *c, **reader) for c in commands)
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
            client.set_registered_model_alias(DEFAULT, CHAMPION, "1")
        with pytest.raises(MlflowException, match="error code 403"):
            client.delete_registered_model_alias(DEFAULT, CHAMPION)
        with pytest.raises(MlflowException, match="error code 403"):
            find_decision_log(DEFAULT).append(2, "forged")
    assert version_of(DEFAULT, CHAMPION) == 2 and len(all_runs()) == runs


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
    drawn = [value for name, value in team.settings.items() if name != "SERVER_NAME"]
    for secret in (*SECRETS.values(), *drawn, WRONG):
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
