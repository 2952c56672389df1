"""MLflow's UI on the right store, opened at a page of it."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
import zlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import quote, urlencode

import mlflow
from mlflow.exceptions import MlflowException

from fmnist.common.errors import TrackingError, is_refused
from fmnist.common.exits import sigterm_raises
from fmnist.tracking.store import VIEW, Store
from fmnist.tracking.store_uri import without_password

SHARED_VIEW = "mlflow.sharedViewState."
VARIANTS = "variants"
METRICS = ("best_epoch", "best_val_accuracy")  # not the test accuracy: nobody shall choose by it
PARAMS = ("data", "model", "seed", "training.epochs")

HOST = "127.0.0.1"
START_TIMEOUT = 120.0  # seconds; a server takes 10 to 20 to answer
PORTS = 20  # tried one after another


def experiment_page(store: Store) -> str:
    """Return the page of the experiment's runs: by variant, with the columns that tell them apart.

    The view is kept as MLflow's own button "Share" keeps one, in a tag of the experiment; a user
    who may only read gets the page as MLflow shows it.
    """
    columns = [f"metrics.`{name}`" for name in METRICS] + [f"params.`{name}`" for name in PARAMS]
    state = {"orderByKey": "params.`model`", "orderByAsc": True, "selectedColumns": columns}
    content = b64encode(zlib.compress(json.dumps(state).encode())).decode()
    tag = f"{SHARED_VIEW}{VARIANTS}"
    page = f"/#/experiments/{store.experiment_id}/runs{VIEW}"
    try:
        mlflow.MlflowClient().set_experiment_tag(store.experiment_id, tag, f"deflate;{content}")
    except MlflowException as error:
        if not is_refused(error):
            raise
        return page
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
        TrackingError: if MLflow's server does not start, or ends by itself.
    """
    if store.uri.startswith("http"):
        run_checks(without_password(store.uri).rstrip("/") + page, browser)
        return
    port = _free(port)
    _say("starting MLflow's UI, which takes some seconds ...")
    with suppress(KeyboardInterrupt), sigterm_raises(), served(store, port) as server:
        run_checks(f"http://{HOST}:{port}{page}", browser)
        _say("Ctrl-C ends it")
        raise TrackingError(f"MLflow's UI ended with status {server.wait()}")


@contextmanager
def served(store: Store, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the UI of a store, and come back when it answers.

    Raises:
        TrackingError: if it does not.
    """
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port)]
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": store.uri,  # as an argument everybody could read its password
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # for language models; most of the memory
    }
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            [*command, "--workers", "1"], env=environment, stdout=log, stderr=log
        )
        try:
            if not _answers(server, f"http://{HOST}:{port}/health"):
                log.seek(0)
                last = (log.read().strip().splitlines() or ["no answer"])[-1]
                reason = last.replace(store.uri, without_password(store.uri))
                raise TrackingError(f"MLflow's UI does not start: {reason}")
            yield server
        finally:
            server.terminate()
            server.wait()


def _answers(server: subprocess.Popen[bytes], address: str) -> bool:
    """Wait until the server answers; not if it ends or takes too long."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + START_TIMEOUT
    while time.monotonic() < until and server.poll() is None:
        try:
            direct.open(address, timeout=5).close()
            return True
        except OSError:
            time.sleep(0.2)
    return False


def _free(port: int) -> int:
    for candidate in range(port, port + PORTS):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, candidate)):
                return candidate
    raise TrackingError(f"port {port}: this one and the next {PORTS - 1} are taken; name another")


def run_checks(address: str, browser: bool) -> None:
    """Print an address and open it in the browser."""
    _say(address)
    if browser and not webbrowser.open(address):
        _say("no browser here: open that address in yours")


def _say(text: str) -> None:
    """Print to standard error: standard output may be a file that the comparison goes to."""
    print(text, file=sys.stderr, flush=True)
