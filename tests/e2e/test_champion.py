"""The champion in use: promoted, asked about images and served, by the commands people type."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image

from conftest import ENVIRONMENT, PROJECT, copy_store
from fmnist.cli.main import main
from fmnist.common.errors import ImageError, PromotionError, TrackingError
from fmnist.data.datasets import digits
from fmnist.inference import server
from fmnist.registry import versions
from fmnist.registry.answering import load_champion
from fmnist.tracking import model as tracked_model
from fmnist.tracking import studies
from fmnist.tracking.store import Store

PORT = 5172
MODEL = "fmnist-digits"  # of digits in the experiment fmnist
OF_DIGITS = ("--model", MODEL)
IMAGES = digits(300, 297).test.images


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(rates, tmp_path_factory) -> Path:
    """A store whose champion is the middle one of three studies."""
    folder = tmp_path_factory.mktemp("champion") / "copy"
    copy_store(rates, folder)
    return folder


@pytest.fixture
def uri(folder, monkeypatch) -> str:
    uri = f"sqlite:///{folder}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    return uri


def study_of(uri: str, index: int) -> str:
    return studies.all_studies(Store(uri, "1"))[index].run_id


def test_before_a_promotion_there_is_no_champion(uri):
    for command in (["predict", "x.png"], ["history"], ["serve"]):
        with pytest.raises(PromotionError, match=r"no champion yet: `python -m fmnist promote`"):
            main(command)
    with pytest.raises(PromotionError, match="no earlier champion"):
        main(["rollback"])


def test_an_address_that_cannot_be_had_is_one_line(uri):
    with socket.create_server(("127.0.0.1", PORT)):
        with pytest.raises(PromotionError, match=r"127.0.0.1:\d+: .* Address already in use"):
            main(["serve", "--port", str(PORT)])
        with pytest.raises(PromotionError, match=r"127.0.0.1:99999: .* port must be 0-65535"):
            main(["serve", "--port", "99999"])


def test_a_server_that_does_not_answer_is_reported_at_once(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for command in (["history"], ["predict", "x.png"], ["serve"], ["rollback"], ["promote", "x"]):
        with pytest.raises(TrackingError, match=r"http://127.0.0.1:9: .*refused"):
            main(command)


def test_promote_prints_the_decision(uri, capsys):
    main(["promote", study_of(uri, 1), "--first", "--dry-run"])
    assert "the decision would be:\n\n0.01 would be the champion now" in capsys.readouterr().out
    main(["promote", study_of(uri, 1), "--first"])
    printed = capsys.readouterr().out
    assert "| challenger | 0.01    | 1       |" in printed
    assert printed.endswith("0.01 (version 1) is the champion now, without evidence: nothing was "
                            "compared.\n")  # fmt: skip
    main(["history", *OF_DIGITS])
    assert "| promoted | version 1 | 0.01 (version 1) is the cham" in capsys.readouterr().out


def test_predict_names_classes(uri, tmp_path, capsys):
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", IMAGES[:2])
    main(["predict", str(tmp_path), *OF_DIGITS])
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["fmnist-digits, version 1, trained on digits", ""]
    del printed[:2]
    assert printed[0].startswith("| image")
    names = [line.split("|")[1].strip().removeprefix(f"{tmp_path}/") for line in printed[2:]]
    assert names == ["a.png", "b.npy[0]", "b.npy[1]"]
    main(["predict", str(tmp_path), "--json", *OF_DIGITS])
    printed = json.loads(capsys.readouterr().out)
    expected = mlflow.keras.load_model("models:/fmnist-digits@champion").predict(
        IMAGES[:2], verbose=0
    )
    assert (printed["model"], printed["data_set"]) == ("models:/fmnist-digits/1", "digits")
    for answer, row in zip(printed["answers"], expected[[0, 0, 1]], strict=True):
        assert answer["class"] == str(row.argmax())
        assert list(answer["probabilities"]) == list("0123456789")
        np.testing.assert_allclose(list(answer["probabilities"].values()), row, rtol=1e-4)


def test_predict_goes_on_after_a_file_that_is_no_image(uri, tmp_path, capsys):
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(ImageError, match=r"b.png: is not a PNG, JPEG, WebP, GIF or .npy file"):
        main(["predict", str(tmp_path), *OF_DIGITS])
    assert f"{tmp_path}/a.png" in capsys.readouterr().out


def test_predict_draws_what_the_model_saw(uri, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fmnist.inference.predict.PICTURE", tmp_path / "outputs" / "predict.png")
    np.save(tmp_path / "many.npy", IMAGES[:5])
    main(["predict", str(tmp_path / "many.npy"), "--show", "--no-browser", *OF_DIGITS])
    assert capsys.readouterr().err.strip() == (tmp_path / "outputs" / "predict.png").as_uri()
    assert min(Image.open(tmp_path / "outputs" / "predict.png").size) > 500


@contextmanager
def serving(uri: str, *command: str, cwd: Path = PROJECT):
    path = f"{Path(sys.executable).parent}{os.pathsep}{ENVIRONMENT['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--port", str(PORT)],
        cwd=cwd,
        env=ENVIRONMENT | {"MLFLOW_TRACKING_URI": uri, "PATH": path},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 90
        while ask("GET", "/ping")[0] != 200:
            assert process.poll() is None and time.monotonic() < until, process.stderr.read()
            time.sleep(0.1)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
        process.stderr.close()


def ask(method: str, path: str, body: bytes | None = None, **headers: str):
    """Return status, content and headers of an answer; status 0 without one."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    except OSError:
        return 0, "", {}
    finally:
        connection.close()


def post(content, kind: str = "application/json"):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return ask("POST", "/invocations", body, **{"Content-Type": kind})


def images_with(value) -> dict:
    pixels = IMAGES[:1].tolist()
    pixels[0][3][3] = value
    return {"inputs": pixels}


FORM = "the input must be {"
REFUSED = [
    (images_with(float("nan")), FORM),
    (images_with(float("inf")), FORM),
    (images_with(0.5), FORM),
    (images_with("7"), FORM),
    (images_with(None), FORM),
    (images_with(True), FORM),
    (images_with(300), "Python integer 300 out of bounds for uint8"),
    (images_with(-1), "Python integer -1 out of bounds for uint8"),
    ({"inputs": IMAGES[0].tolist()}, "Shape of input (8, 8) does not match"),
    ({"inputs": IMAGES[:2, :7].tolist()}, "Shape of input (2, 7, 8) does not match"),
    ({"inputs": [[[1], [1, 2]]]}, "inhomogeneous shape"),
    ({"inputs": []}, "tensor-based model signature"),
    ({"inputs": 3}, "Shape of input () does not match"),
    ({"dataframe_split": {"columns": ["a"], "data": [[1]]}}, FORM),
    ({}, FORM),
    ([1, 2], FORM),
    (b"secret words", FORM),
    (b"\xff\xfe", FORM),
    (b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    (b'{"inputs":' + b"9" * 5000 + b"}", "a number is too long"),
    (b" " * (17 * 2**20), "the input has 17,825,792 bytes, the most is 16,777,216"),
]


def first_answer(model) -> float:
    return float(model.predict(IMAGES[:1]).iloc[0, 0])


def answers_until_version_2(client: int) -> list[tuple[str, float]]:
    """Ask again and again; return of each answer the version and the first probability."""
    seen, until = [], time.monotonic() + 30
    while (not seen or seen[-1][0] == "1") and time.monotonic() < until:
        status, content, headers = post({"inputs": IMAGES[:1].tolist()})
        assert status == 200
        seen.append((headers["model-version"], json.loads(content)["predictions"][0]["0"]))
    return seen


def test_the_served_champion(uri, capsys):
    with serving(uri, "fmnist", "serve", *OF_DIGITS) as process:
        status, content, headers = post({"inputs": IMAGES[:3].tolist()})
        assert (status, headers["model-version"]) == (200, "1")
        assert headers["model"] == "models:/fmnist-digits/1"
        assert headers["model-data-set"] == "digits"
        answers = json.loads(content)["predictions"]
        model = mlflow.pyfunc.load_model("models:/fmnist-digits@champion")
        assert [list(answer) for answer in answers] == [list("0123456789")] * 3
        given = [list(answer.values()) for answer in answers]
        np.testing.assert_allclose(given, model.predict(IMAGES[:3]).to_numpy(), rtol=1e-4)
        expected = {"1": first_answer(model)}
        for content, message in REFUSED:
            status, answer, _ = post(content)
            assert status == 400 and message in json.loads(answer)["error"], (content, answer)
            assert len(answer) < 300 and "secret" not in answer
        assert post(b"a,b", "text/csv")[0] == 400
        both = {"Content-Length": "2", "Transfer-Encoding": "chunked"}
        kind = {"Content-Type": "application/json"}
        assert ask("POST", "/invocations", b"0\r\n\r\n", **both, **kind)[0] == 400
        # A new champion is loaded without losing a request, and each answer names its version.
        main(["promote", study_of(uri, 2)])
        process.send_signal(signal.SIGHUP)
        with ThreadPoolExecutor(4) as clients:
            seen = [
                pair for pairs in clients.map(answers_until_version_2, range(4)) for pair in pairs
            ]
        expected |= {"2": first_answer(mlflow.pyfunc.load_model("models:/fmnist-digits@champion"))}
        assert {version for version, _ in seen} == {"1", "2"}
        for version, probability in seen:
            assert probability == pytest.approx(expected[version], rel=1e-4)
    assert "is the champion now: it beats the champion, 0.01" in capsys.readouterr().out


def test_mlflow_serves_it_from_another_folder(uri, folder, tmp_path):
    example = mlflow.artifacts.download_artifacts(
        "models:/fmnist-digits@champion/serving_input_example.json", dst_path=str(tmp_path)
    )
    command = ["mlflow", "models", "serve", "-m", "models:/fmnist-digits@champion"]
    with serving(uri, *command, "--env-manager", "local", cwd=tmp_path):
        status, content, _ = post(Path(example).read_bytes())
    assert status == 200
    assert list(json.loads(content)["predictions"][0]) == list("0123456789")


def test_an_altered_champion_is_not_used(uri, folder):
    for model in (folder / "mlartifacts" / "models").glob("*/artifacts/data/model.keras"):
        with model.open("ab") as file:
            file.write(b"x")
    for command in (["predict", "x.png"], ["serve"]):
        with pytest.raises(PromotionError, match="version 2 of fmnist-digits: its model was alt"):
            main([*command, *OF_DIGITS])


def test_a_server_goes_on_if_the_new_champion_cannot_be_loaded(uri, capsys, monkeypatch):
    expected = versions.version_at(MODEL, 2).tags["model.digest"]
    monkeypatch.setattr(tracked_model, "digest", lambda folder: expected)
    champion = server.ServedModel(lambda: load_champion(MODEL))
    monkeypatch.undo()
    champion.reload()
    error = capsys.readouterr().err
    assert error.startswith("error: version 2 of fmnist-digits: its model was altered: SHA-256 ")
    assert error.endswith(
        "when it was trained; still serving fmnist-digits, version 2, trained on digits\n"
    )
    assert champion.current.version == 2
