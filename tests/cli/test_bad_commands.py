"""Commands on finished runs that are refused, each in one line, and leave nothing behind."""

import shlex
import shutil
import socket

import mlflow
import numpy as np
import pytest

from conftest import lay_store, listing, used_store
from fmnist.cli.main import main
from fmnist.common.errors import FmnistError, one_line

LONG = "x" * 9000

USAGE = [
    ("reproduce nowhere --tolerance nan", "'--tolerance': nan is not within 0 and 1"),
    ("reproduce nowhere --tolerance=-1", "'--tolerance': -1.0 is not within 0 and 1"),
    ("doctor --mend", "No such option '--mend'"),
    ("", "Missing command; see --help"),
    (LONG, "No such command 'xxxx"),
    ("compare --nosuch", "No such option '--nosuch'"),
    ("compare --runs --filter x", "--runs and --filter exclude one another"),
    ("compare --min-effect abc", "'--min-effect': 'abc' is not a valid float"),
    ("compare --format x", "'--format': 'x' is not one of"),
    ("compare --port 0", "'--port': 0 is not in the range 1<=x<=65535"),
    ("ui --port 99999999", "'--port': 99999999 is not in the range"),
    ("ui --port abc", "'--port': 'abc' is not a valid integer"),
    ("rollback --to x", "'--to': 'x' is not a valid integer"),
    ("predict", "Missing argument 'IMAGE...'"),
    ("serve --port x", "'--port': 'x' is not a valid integer"),
]
EMPTY_STORE = [
    ("reproduce nowhere", "run nowhere: there is no such run in this store"),
    ("reproduce ../../etc/passwd", "run ../../etc/passwd: there is no such run in this store"),
    (f"reproduce {LONG}", "there is no such run in this store"),
    ("compare nowhere", "study nowhere: Run with id=nowhere not found"),
    ("compare ../../etc", "study ../../etc: Invalid value"),
    ("compare ''", "no study in this experiment yet"),
    ("compare", "no study in this experiment yet"),
    ("compare --runs", "no run matches: there is nothing to compare"),
    ("compare --experiment nosuch", "experiment nosuch: choose one of fmnist, Default"),
    ("compare --experiment ''", "experiment : choose one of fmnist, Default"),
    ("compare --filter 'model is relu'", "filter model is relu: Invalid clause"),
    ("compare --filter \"params.x = ''; DROP TABLE runs; --\"", "filter params.x = "),
    ("compare --filter '('", "filter (: Invalid clause(s) in filter string"),
    ("compare --by model --metric x", "no study in this experiment yet"),
    ("ui --experiment nosuch", "experiment nosuch: choose one of fmnist, Default"),
    ("studies", "no study in this experiment yet"),
    ("promote nosuch", "study nosuch: Run with id=nosuch not found"),
    ("promote --min-effect nan", "promotion.min_effect=nan: must be above 0 and below 1"),
    ("promote --min-effect -1", "promotion.min_effect=-1.0: must be above 0 and below 1"),
    ("promote --alpha 5", "promotion.alpha=5.0: must be above 0 and below 1"),
    ("history", "there is no champion yet"),
    ("rollback", "rollback of fmnist: there is no earlier champion"),
    ("rollback --to 999", "version 999: is no earlier champion; there are none"),
    ("predict HERE/x.png", "there is no champion yet"),
    ("predict HERE", "no picture and no .npy in this folder"),
    ("serve", "there is no champion yet"),
    ("serve --port 99999999", "bind(): port must be 0-65535"),
    ("serve --port TAKEN", "127.0.0.1:TAKEN: [Errno 98] Address already in use"),
    ("serve --host 192.0.2.1", "192.0.2.1:5001: [Errno 99] Cannot assign requested address"),
]
USED_STORE = [
    ("reproduce RUN", "RUN: has no digests.json to compare with"),
    ("reproduce RUN --checkout", "RUN: recorded no commit to check out"),
    ("compare --runs --min-effect nan", "min_effect nan: must be above 0 and below 1"),
    ("compare --runs --min-effect 5", "min_effect 5.0: must be above 0 and below 1"),
    ("compare --runs --metric loss", "metric loss: choose one of best_val_accuracy,"),
    ("compare --runs --by nosuch", "by nosuch: no run has this param"),
    ("compare --runs --by ,", "by : no run has this param"),
    ("compare --runs --allow data --baseline nosuch", "baseline nosuch: "),
    ("compare --runs --allow nosuch", "differ in more than model and seed: data.fingerprint is"),
    ("compare RUN", "is not a study; omit it to compare the latest one"),
    ("promote RUN", "is not a study"),
    ("history", "was not made by `python -m fmnist promote`"),
    ("rollback", "was not made by `python -m fmnist promote`"),
]
NO_STORE = [
    ("doctor", "sqlite:///HERE/none.db", "none.db: does not exist yet; train.py creates it"),
    ("doctor --fix", "sqlite:////etc/passwd", "tracking store sqlite:////etc/passwd: "),
    ("compare", "sqlite:///HERE/none.db", "none.db: does not exist yet; train.py creates it"),
    ("history", "http://127.0.0.1:9", "tracking store http://127.0.0.1:9: [Errno 111]"),
    ("studies", "nosuch://x", "tracking store nosuch://x: Model registry functionality"),
    ("predict x.png", "sqlite:///HERE", "tracking store sqlite:///HERE: is a folder"),
    ("promote", "http://u:geheim@127.0.0.1:9", "tracking store http://127.0.0.1:9: [Errno 111]"),
    ("serve", "postgresql://u:geheim@127.0.0.1:9/x", "store postgresql://127.0.0.1:9/x: "),
]


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A folder with a store that has an experiment and no run."""
    folder = tmp_path_factory.mktemp("empty")
    lay_store(folder)
    mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").create_experiment("fmnist")
    return folder


@pytest.fixture(scope="module")
def used(empty, tmp_path_factory):
    """A folder with a store that has runs and a champion, and the id of a run."""
    folder = tmp_path_factory.mktemp("used") / "here"
    shutil.copytree(empty, folder)
    return folder, used_store(folder)


@pytest.fixture
def refused(monkeypatch, capsys):
    """`refused(typed, uri)`: the line with which a command ends that is asked of a store."""

    def refused(typed, uri):
        for name in ("USERNAME", "PASSWORD"):  # which a command may set
            monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises((FmnistError, OSError, SystemExit)) as stop:
            main(shlex.split(typed))
        if not isinstance(stop.value, SystemExit):
            return one_line(stop.value)
        assert stop.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        return line

    return refused


@pytest.mark.parametrize(("typed", "words"), USAGE + EMPTY_STORE)
def test_with_an_empty_store(refused, empty, typed, words):
    before = listing(empty)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        known = {"HERE": str(empty), "TAKEN": str(taken.getsockname()[1])}
        for name, value in known.items():
            typed, words = typed.replace(name, value), words.replace(name, value)
        line = refused(typed, f"sqlite:///{empty}/mlflow.db")
    assert words in line and "\n" not in line
    assert listing(empty) == before


@pytest.mark.parametrize(("typed", "words"), USED_STORE)
def test_with_runs_of_others(refused, used, typed, words):
    folder, run_id = used
    before = listing(folder)
    line = refused(typed.replace("RUN", run_id), f"sqlite:///{folder}/mlflow.db")
    assert words.replace("RUN", run_id) in line and "\n" not in line
    assert listing(folder) == before


@pytest.mark.parametrize(("typed", "uri", "words"), NO_STORE)
def test_where_there_is_no_store(refused, tmp_path, typed, uri, words):
    line = refused(typed, uri.replace("HERE", str(tmp_path)))
    assert (
        words.replace("HERE", str(tmp_path)) in line and "\n" not in line and "geheim" not in line
    )
    assert listing(tmp_path) == set()


def test_predict_of_what_is_no_image_names_the_file(refused, used, tmp_path):
    uri = f"sqlite:///{used[0]}/mlflow.db"
    for name, content in (("x.png", b"a text"), ("x.npy", np.random.bytes(50))):
        (tmp_path / name).write_bytes(content)
        assert f"{tmp_path}/{name}: is no" in refused(f"predict {tmp_path}/{name}", uri)
