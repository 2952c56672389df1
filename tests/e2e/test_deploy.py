"""deploy/: what can be told of it without a container engine; tests/e2e/test_team_server.py runs
the files that the containers run.
"""

import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import PROJECT
from deploy import users
from fmnist.common.errors import ConfigError

DEPLOY = PROJECT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
README = (PROJECT / "docs" / "team-server.md").read_text()
SECRETS = {
    *("PGPASSWORD", "POSTGRES_PASSWORD"),
    *("MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD"),
}


@pytest.fixture
def settings(tmp_path) -> dict[str, str]:
    """The lines of the .env that deploy/secrets.sh writes."""
    write_settings(tmp_path, check=True)
    lines = (tmp_path / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def write_settings(folder: Path, check: bool) -> subprocess.CompletedProcess[str]:
    command = ["sh", DEPLOY / "secrets.sh", "mlflow.example.org", folder / ".env"]
    return subprocess.run(command, check=check, capture_output=True, text=True)


def instructions(name: str) -> list[list[str]]:
    """The words of each instruction of this name in the Dockerfile."""
    lines = DOCKERFILE.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"{name} ")]


def test_every_secret_comes_from_the_environment_or_is_asked_for(settings):
    required = set()
    for service in SERVICES.values():
        for name, value in service["environment"].items():
            if name in SECRETS | {"SERVER_NAME"}:
                assert re.fullmatch(rf"\$\{{{name}:\?.+\}}", value), (name, value)
                required.add(name)
            else:
                assert "$" not in value and not re.search("PASSWORD|SECRET|KEY|TOKEN", name)
    assert required == settings.keys() == SECRETS | {"SERVER_NAME"}


def test_new_secrets_are_long_private_different_and_never_overwritten(settings, tmp_path):
    file = tmp_path / ".env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    drawn = {settings[name] for name in SECRETS}
    assert len(drawn) == len(SECRETS) and all(re.fullmatch(r"[\w-]{32}", one) for one in drawn)
    before = file.read_text()
    again = write_settings(tmp_path, check=False)
    assert again.returncode != 0 and "exist" in again.stderr and file.read_text() == before
    ignored = (PROJECT / ".gitignore").read_text().splitlines()
    assert {"deploy/.env", "deploy/artifacts/"} < set(ignored)


def test_images_are_pinned_to_one_version():
    for image in (SERVICES["postgres"]["image"], *(words[0] for words in instructions("FROM"))):
        assert re.fullmatch(r"\w+:\d+\.\d+(\.\d+)?(-[a-z]+)+", image), image
    [python] = [words[0] for words in instructions("FROM")]
    conda = yaml.safe_load((PROJECT / "conda.yaml").read_text())["dependencies"][0]
    assert python.startswith(f"python:{conda.removeprefix('python=')}.")


def test_the_image_has_the_versions_that_are_tested():
    copied = {word for words in instructions("COPY") for word in words[:-1]}
    needed = {"requirements.txt", "server.sh", "auth.ini"}
    assert copied == {"tests/requirements.txt", *(f"deploy/{name}" for name in needed)}
    asked = ["--requirement", "deploy/requirements.txt"]
    [install] = [words for words in instructions("RUN") if "pip" in words]
    assert install == ["pip", "install", "--no-cache-dir", *asked]
    lines = (DEPLOY / "requirements.txt").read_text()
    assert "\n-c ../tests/requirements.txt\n" in lines and "==" not in lines
    dry = ["uv", "pip", "install", "--dry-run", "--offline", "--python", sys.executable]
    command = [sys.executable, "-m", *dry, *asked]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert "Would make no changes" in done.stderr, done.stderr


def test_containers_run_what_the_plain_commands_and_the_tests_run():
    assert instructions("CMD") == [["[sh,", "deploy/server.sh]"]]
    assert not {"command", "entrypoint"} & {key for s in SERVICES.values() for key in s}
    mounted = dict(volume.split(":")[:2] for volume in SERVICES["postgres"]["volumes"])
    assert mounted["./databases.sql"] == "/docker-entrypoint-initdb.d/databases.sql"
    [artifacts] = SERVICES["server"]["volumes"]
    assert artifacts == "artifacts:/srv/deploy/artifacts" and ["/srv"] in instructions("WORKDIR")
    script = (DEPLOY / "server.sh").read_text()
    own = SERVICES["server"]["environment"].keys() - SECRETS
    assert all(re.search(rf"\$\{{{name}:", script) for name in own)


def test_every_service_is_watched_and_restarted():
    for service in SERVICES.values():
        assert service["restart"] == "unless-stopped"
        check = service["healthcheck"]
        assert check["test"][0] == "CMD" and {"interval", "timeout", "retries"} < check.keys()
    after = SERVICES["server"]["depends_on"]
    assert after == {"postgres": {"condition": "service_healthy"}}


def test_only_the_server_can_be_reached_and_only_from_this_machine():
    assert "ports" not in SERVICES["postgres"]
    assert SERVICES["postgres"]["networks"] == ["inside"] and COMPOSE["networks"]["inside"] == {
        "internal": True
    }
    assert [port.split(":")[0] for port in SERVICES["server"]["ports"]] == ["127.0.0.1"]
    named = {v.split(":")[0] for s in SERVICES.values() for v in s["volumes"] if v[0] != "."}
    assert named == COMPOSE["volumes"].keys()


def test_what_the_page_names_is_there(capsys):
    named = set(re.findall(r"(?<![\w/])deploy/[\w.]+\w", README))
    assert {"deploy/compose.yaml", "deploy/server.sh", "deploy/databases.sql"} <= named
    made = {"deploy/.env", "deploy/artifacts"}
    assert [name for name in named - made if not (PROJECT / name).exists()] == []
    with pytest.raises(SystemExit):
        users.main(["--help"])
    there = re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out, re.MULTILINE)
    assert set(re.findall(r"python -m deploy\.users (\w+)", README)) == set(there)


def test_a_store_without_users_and_a_command_without_names_are_told(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////tmp/mlflow.db")
    with pytest.raises(ConfigError, match=r"sqlite:////tmp/mlflow\.db: has no users; name a ser"):
        users.main(["add", "anna"])
    done = subprocess.run(["sh", DEPLOY / "secrets.sh"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.endswith("secrets.sh SERVER_NAME FILE\n")
