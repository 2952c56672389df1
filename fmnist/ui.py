"""MLflow's UI on the right store, opened at a page of it."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
import zlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import quote, urlencode

import mlflow

from fmnist.errors import TrackingError
from fmnist.store import VIEW, Store, without_password

SHARED_VIEW = "mlflow.sharedViewState."
VARIANTS = "variants"
METRICS = ("best_epoch", "best_val_accuracy")  # not the test accuracy: nobody shall choose by it
PARAMS = ("data", "model", "seed", "training.epochs")

HOST = "127.0.0.1"
START_TIMEOUT = 120.0  # seconds; a server takes 10 to 20 to answer
PORTS = 20  # tried one after another


def experiment_page(store: Store) -> str:
    """Return the page of the experiment's runs: by variant, with the columns that tell them apart.

    The view is kept as MLflow's own button "Share" keeps one, in a tag of the experiment.
    """
    columns = [f"metrics.`{name}`" for name in METRICS] + [f"params.`{name}`" for name in PARAMS]
    state = {"orderByKey": "params.`model`", "orderByAsc": True, "selectedColumns": columns}
    content = b64encode(zlib.compress(json.dumps(state).encode())).decode()
    tag = f"{SHARED_VIEW}{VARIANTS}"
    mlflow.MlflowClient().set_experiment_tag(store.experiment_id, tag, f"deflate;{content}")
    page = f"/#/experiments/{store.experiment_id}/runs{VIEW}"
    return f"{page}&{urlencode({'viewStateShareKey': VARIANTS})}"


def compare_page(store: Store, run_ids: Sequence[str]) -> str:
    """Return the page that compares runs."""
    runs, experiments = (quote(json.dumps(ids)) for ids in (list(run_ids), [store.experiment_id]))
    return f"/#/compare-runs?runs={runs}&experiments={experiments}&{VIEW.removeprefix('?')}"


def show(store: Store, page: str, port: int, browser: bool) -> None:
    """Open a page of the store's UI in the browser; serve the UI until Ctrl-C if no server does.

    Args:
        store: to look at.
        page: as the functions above return it.
        port: to serve on; if it is taken, the next free one.
        browser: False: only print the address.

    Raises:
        TrackingError: if MLflow's server does not start.
    """
    if store.uri.startswith("http"):
        _visit(without_password(store.uri).rstrip("/") + page, browser)
        return
    port = _free(port)
    print("starting MLflow's UI, which takes some seconds ...", flush=True)
    with served(store, port) as server:
        _visit(f"http://{HOST}:{port}{page}", browser)
        print("Ctrl-C ends it", flush=True)
        with suppress(KeyboardInterrupt):
            server.wait()


@contextmanager
def served(store: Store, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the UI of a store, and come back when it answers.

    Raises:
        TrackingError: if it does not.
    """
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    # Job execution serves language models only; without it the server takes a sixth of the memory.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait(server, f"http://{HOST}:{port}/health")
            yield server
        except TimeoutError as error:
            log.seek(0)
            last = (log.read().strip() or str(error)).splitlines()[-1]
            raise TrackingError(f"MLflow's UI does not start: {last}") from None
        finally:
            server.terminate()
            server.wait()


def _wait(server: subprocess.Popen[bytes], address: str) -> None:
    until = time.monotonic() + START_TIMEOUT
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TimeoutError("no answer")


def _free(port: int) -> int:
    for candidate in range(port, port + PORTS):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, candidate)):
                return candidate
    raise TrackingError(f"port {port}: this one and the next {PORTS - 1} are taken; name another")


def _visit(address: str, browser: bool) -> None:
    print(address, flush=True)
    if browser and not webbrowser.open(address):
        print("no browser here: open that address in yours", flush=True)
