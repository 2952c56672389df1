"""The commands of README and docs do what the pages say.

Every command of a `console` block is checked: quickly, whether the program takes it; slowly, by
typing it in a copy of the project that trains a small network on digits. A block `sh` is for what a
test cannot start: a server, a cluster, an hour of measuring.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hydra.core.global_hydra import GlobalHydra

from conftest import ENVIRONMENT, PROJECT, copy_store, made_once, runs_in
from fmnist.cli.main import commands
from fmnist.sweeps.checks import check_jobs

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHEAPER = {
    "conf/train.yaml": {
        "fashion_mnist": "digits",
        "epochs: 10": "epochs: 2",
        "depth: 20": "depth: 3",
    },
    "conf/experiment/tutorial.yaml": {
        "relu,batch_norm,batch_norm_before,selu,selu_dropout,selu_plain_dropout": "relu,selu",
        "1,2,3,4,5": "1,2",
    },
    "conf/experiment/quick.yaml": {"relu,batch_norm,selu": "relu,selu", "1,2,3": "1,2"},
    "conf/hydra/sweeper/optuna.yaml": {
        "trials: 40": "trials: 3",
        "[101, 102, 103, 104, 105]": "[101, 102]",
    },
}
NEED_CHAMPION = ("promotion", "predict-and-serve")
SHORTER = {
    "1,2,3,4,5": "1,2",
    "training.epochs=20": "training.epochs=3",
    "epochs = '10'": "epochs = '2'",
}


def examples(page: Path) -> list[tuple[str, list[str]]]:
    """The commands of a page, each with the lines that it prints there."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def words_of(program: str) -> list[list[str]]:
    """The words after `program` of all its commands that succeed."""
    typed = [c for page in PAGES for c, printed in examples(page) if not printed]
    words = [shlex.split(command.partition(">")[0], comments=True) for command in typed]
    start = program.split()
    return [w[len(start) :] for w in words if w[: len(start)] == start and "--help" not in w]


@pytest.mark.parametrize("words", words_of("python train.py"), ids=" ".join)
def test_training_takes_every_override(words, request):
    if "-m" not in words:
        request.getfixturevalue("config")(*words)
        return
    composed, overrides = request.getfixturevalue("swept_config")(*(w for w in words if w != "-m"))
    check_jobs(GlobalHydra.instance().config_loader(), composed, overrides)


@pytest.mark.parametrize("words", words_of("python -m fmnist"), ids=" ".join)
def test_the_command_line_takes_every_option(words):
    name, *options = words
    with click.Context(commands) as context:
        command = commands.get_command(context, name)
        assert command is not None
        command.make_context(name, options)


@pytest.fixture
def clone(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of the project whose defaults are cheap, a study and a stopped run in its store."""
    made = made_once(tmp_path_factory, "clone", make_clone)
    folder = tmp_path / "clone"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"))
    copy_store(made, folder)
    return folder


def make_clone(folder: Path) -> None:
    for name in ("conf", "fmnist", "hydra_plugins", "train.py", "MLproject", "python_env.yaml"):
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, folder / name)
    for name, changes in CHEAPER.items():
        text = (folder / name).read_text()
        for old, new in changes.items():
            assert old in text, (name, old)
            text = text.replace(old, new)
        (folder / name).write_text(text)
    shutil.copytree(PROJECT / "docs" / "images", folder / "docs" / "images")
    assert typed(folder, "python train.py -m +experiment=tutorial").returncode == 0
    stop_a_run(folder)


def stop_a_run(folder: Path) -> None:
    command = [sys.executable, "train.py", "training.epochs=50", "callbacks.early_stopping=null"]
    with subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith(b"epoch"):
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()


def typed(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Type a command of a page, its placeholders filled in."""
    for long, short in SHORTER.items():
        command = command.replace(long, short)
    if "RUN_ID" in command or "STUDY" in command:
        command = command.replace("RUN_ID", run_id(folder, stopped="resume=" in command))
        command = command.replace("STUDY", study_id(folder))
    path = f"{Path(sys.executable).parent}{os.pathsep}{ENVIRONMENT['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=ENVIRONMENT | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )


def run_id(folder: Path, stopped: bool) -> str:
    status = "KILLED" if stopped else "FINISHED"
    runs = [run for run in runs_in(folder) if run.info.status == status]
    return next(
        r.info.run_id for r in runs if "signature" in r.data.tags and "study" not in r.data.tags
    )


def study_id(folder: Path) -> str:
    return next(run.info.run_id for run in runs_in(folder) if "sweep" in run.data.tags)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if examples(page)], ids=lambda page: page.stem
)
def test_every_command_of_a_page_works(page, clone):
    if page.stem in NEED_CHAMPION:
        assert typed(clone, "python -m fmnist promote --first").returncode == 0
    for command, printed in examples(page):
        done = typed(clone, command)
        fails = any(line.startswith("error:") for line in printed)
        assert bool(done.returncode) == fails, f"{command}\n{done.stdout}{done.stderr}"
        assert set(printed) <= {*done.stdout.splitlines(), *done.stderr.splitlines()}, command
