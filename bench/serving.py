"""Time the champion's server: `python -m fmnist serve`, and beside it MLflow's with stock Keras.

    python bench/serving.py                  five minutes
    python bench/serving.py --seconds 2      for a first idea

Trains a network for an epoch, promotes it in a store of its own, and serves it. The yardstick is
the same network as `mlflow.keras.save_model` saves it, served by `mlflow models serve`. Both get
the same requests one after another: single images and 256 at once, then single images from 1, 8
and 32 clients for some seconds. Prints a table, and leaves serving.json in outputs/serving/.
"""

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from fmnist.common.startup import without_start_up_notices  # noqa: E402
from fmnist.common.terminal import table  # noqa: E402
from fmnist.registry.model_names import DEFAULT  # noqa: E402

HOST, PORT = "127.0.0.1", 5190
CLIENTS = (1, 8, 32)
LATENCY_REQUESTS = 200
START_TIMEOUT = 120.0  # seconds


def champion(folder: Path) -> dict[str, str]:
    """Train a network, make it the champion of a store in `folder`; return the environment."""
    store = f"sqlite:///{folder}/mlflow.db"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow types uvicorn
    environment = os.environ | {"MLFLOW_TRACKING_URI": store, "PATH": path}
    sweep = f"hydra.sweep.dir={folder}/sweep"
    for command in (
        ["train.py", "-m", "model=selu", "seed=1", "training.epochs=1", sweep],
        ["-m", "fmnist", "promote", "--first"],
    ):
        done = subprocess.run(
            [sys.executable, *command], cwd=PROJECT, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stderr)
    return environment


def stock(folder: Path, environment: dict[str, str]) -> Path:
    """Save the champion's network as MLflow's Keras flavor does by itself."""
    mlflow.set_tracking_uri(environment["MLFLOW_TRACKING_URI"])
    uri = f"models:/{DEFAULT}@champion"
    path = folder / "stock"
    signature = mlflow.models.get_model_info(uri).signature
    with without_start_up_notices():
        model = mlflow.keras.load_model(uri)
    mlflow.keras.save_model(model, str(path), signature=signature)
    return path


@contextmanager
def served(command: list[str], environment: dict[str, str]) -> Iterator[tuple[int, float]]:
    """Run a server; yield its process id and the seconds until it answered."""
    began = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", *command, "--port", str(PORT)],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not answers():
            if server.poll() is not None or time.perf_counter() - began > START_TIMEOUT:
                sys.exit(f"{' '.join(command)} does not answer")
            time.sleep(0.1)
        yield server.pid, time.perf_counter() - began
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def answers() -> bool:
    """Tell whether a server is ready."""
    connection = http.client.HTTPConnection(HOST, PORT, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def request_of(images: int) -> bytes:
    """Return the body of a request about as many random images."""
    pixels = np.random.default_rng(images).integers(0, 256, (images, 28, 28))
    return json.dumps({"inputs": pixels.tolist()}).encode()


def post(connection: http.client.HTTPConnection, body: bytes) -> int:
    """Send a request; return how many images were answered."""
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    return len(json.loads(content)["predictions"]) if response.status == 200 else 0


def latency(images: int) -> tuple[float, float]:
    """Return median and 99th percentile of a request's time in milliseconds."""
    body, times = request_of(images), []
    connection = http.client.HTTPConnection(HOST, PORT, timeout=60)
    for _ in range(LATENCY_REQUESTS):
        began = time.perf_counter()
        if post(connection, body) != images:
            sys.exit("a request was not answered")
        times.append(1000 * (time.perf_counter() - began))
    return float(np.median(times)), float(np.percentile(times, 99))


def throughput(clients: int, seconds: float) -> tuple[float, int]:
    """Return requests a second answered to so many clients, and how many were not answered."""
    body, until = request_of(1), time.perf_counter() + seconds

    def client(_: int) -> tuple[int, int]:
        connection = http.client.HTTPConnection(HOST, PORT, timeout=60)
        sent = answered = 0
        while time.perf_counter() < until:
            sent += 1
            try:
                answered += post(connection, body)
            except OSError:
                connection.close()
        return sent, answered

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        counts = list(pool.map(client, range(clients)))
    sent, answered = (sum(column) for column in zip(*counts, strict=True))
    return answered / (time.perf_counter() - began), sent - answered


def memory(process: int) -> float:
    """Return the megabytes that a server and its children hold."""
    pids, kilobytes = [str(process)], 0
    for pid in pids:
        status = Path("/proc", pid, "status").read_text()
        kilobytes += int(status.partition("VmRSS:")[2].split()[0])
        pids += Path("/proc", pid, "task", pid, "children").read_text().split()
    return kilobytes / 1024


def measured(command: list[str], environment: dict[str, str], seconds: float) -> dict[str, Any]:
    """Serve, and measure all."""
    with served(command, environment) as (process, ready):
        for images in (1, 256):
            latency(images)  # warm
        row: dict[str, Any] = {"ready, s": f"{ready:.0f}"}
        for images in (1, 256):
            median, slowest = latency(images)
            name = f"{images} image{'s' if images > 1 else ''}"
            row[f"{name}: ms (99 %)"] = f"{median:.1f} ({slowest:.1f})"
        lost = 0
        for clients in CLIENTS:
            rate, unanswered = throughput(clients, seconds)
            name = f"{clients} client{'s' if clients > 1 else ''}"
            row[f"{name}: requests/s"] = f"{rate:.0f}"
            lost += unanswered
        return row | {"lost": lost, "MB": f"{memory(process):.0f}", "answers after": answers()}


def main() -> None:
    """Measure both servers and print the table."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--seconds", type=float, default=10, help="of load for each number (10)")
    seconds = parser.parse_args().seconds
    with TemporaryDirectory() as folder:
        environment = champion(Path(folder))
        yardstick = ["mlflow", "models", "serve", "--env-manager", "local", "-m"]
        commands = {
            "python -m fmnist serve": ["fmnist", "serve"],
            "mlflow models serve, stock Keras": [*yardstick, str(stock(Path(folder), environment))],
        }
        rows = {name: measured(c, environment, seconds) for name, c in commands.items()}
    columns = list(next(iter(rows.values())))
    print(table(["server", *columns], [[name, *row.values()] for name, row in rows.items()]))
    output = PROJECT / "outputs" / "serving"
    output.mkdir(parents=True, exist_ok=True)
    (output / "serving.json").write_text(json.dumps(rows, indent=1))
    print(f"\n{output}/serving.json")


if __name__ == "__main__":
    main()
