"""MLflow's UI on a store, opened in the browser at one of its pages."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fmnist.common.errors import TrackingError
from fmnist.common.exits import sigterm_raises
from fmnist.tracking.store import Store
from fmnist.tracking.store_uri import without_password

HOST = "127.0.0.1"
START_TIMEOUT = 120.0  # seconds; a server takes 10 to 20 to answer
PORTS = 20  # tried one after another


def show(store: Store, page: str, port: int, browser: bool) -> None:
    """Open a page of the store's UI in the browser, or only print its address.

    If no server serves the UI, serve it until Ctrl-C on `port` or the next free one. `page` is as
    `fmnist.tracking.ui_pages` returns it.

    Raises:
        TrackingError: if MLflow's server does not start, or ends by itself.
    """
    if store.uri.startswith("http"):
        open_page(without_password(store.uri).rstrip("/") + page, browser)
        return
    port = _free_port(port)
    _print("starting MLflow's UI, which takes some seconds ...")
    with suppress(KeyboardInterrupt), sigterm_raises(), served(store, port) as server:
        open_page(f"http://{HOST}:{port}{page}", browser)
        _print("Ctrl-C ends it")
        raise TrackingError(f"MLflow's UI ended with status {server.wait()}")


@contextmanager
def served(store: Store, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the UI of a store; enter the block when it answers, else raise TrackingError."""
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
                last_line = (log.read().strip().splitlines() or ["no answer"])[-1]
                reason = last_line.replace(store.uri, without_password(store.uri))
                raise TrackingError(f"MLflow's UI does not start: {reason}")
            yield server
        finally:
            server.terminate()
            server.wait()


def _answers(server: subprocess.Popen[bytes], address: str) -> bool:
    """Wait until the server answers; False if it ends or takes too long."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and server.poll() is None:
        try:
            direct.open(address, timeout=5).close()
            return True
        except OSError:
            time.sleep(0.2)
    return False


def _free_port(port: int) -> int:
    for candidate in range(port, port + PORTS):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, candidate)):
                return candidate
    raise TrackingError(f"port {port}: this one and the next {PORTS - 1} are taken; name another")


def open_page(address: str, browser: bool) -> None:
    """Print an address, and open it in the browser if asked."""
    _print(address)
    if browser and not webbrowser.open(address):
        _print("no browser here: open that address in yours")


def _print(text: str) -> None:
    """Print to standard error: standard output may be a file that the comparison goes to."""
    print(text, file=sys.stderr, flush=True)
