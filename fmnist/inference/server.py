"""The champion over HTTP: MLflow's scoring server behind a strict check of the input."""

import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from mlflow.pyfunc import scoring_server
from starlette.requests import ClientDisconnect

from fmnist.common.errors import PromotionError, one_line
from fmnist.registry import versions

PATH = "/invocations"
MAX_REQUEST = 16 * 2**20  # bytes; an image of 28 x 28 takes about 3,000

# MLflow would convert anything else that looks like a number: 0.5 to 0.
INPUT = re.compile(rb'\s*\{\s*"(inputs|instances)"\s*:[-\d\[\],\s]*\}\s*')
WRONG_INPUT = 'the input must be {"inputs": images}, each image rows of whole numbers from 0 to 255'

answering_version: ContextVar[list[int]] = ContextVar("answering_version")  # of this request


class Champion:
    """The champion as the scoring server takes a model; it can be replaced by a new champion."""

    def __init__(self) -> None:
        self.current = _load()  # version and model, replaced at once
        self.lock = threading.Lock()

    @property
    def metadata(self) -> Any:
        return self.current[1].metadata

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Return the probabilities, a column for each class by name."""
        version, model = self.current
        answering_version.get().append(version)
        return model.predict(data, params=params)

    def reload(self) -> None:
        """Load the present champion; if that fails, say so and keep the old one."""
        with self.lock:
            try:
                version, model = _load()
                if model.metadata.signature != self.metadata.signature:
                    raise PromotionError(f"version {version}: has another signature; restart")
                self.current = version, model
            except Exception as error:  # whatever it is, the old one can serve
                _log(f"error: {one_line(error)}; still serving version {self.current[0]}")
            else:
                _log(f"serving version {version}")


def _load() -> tuple[int, Any]:
    version, model = versions.load_champion()
    size = model.metadata.signature.inputs.inputs[0].shape[1:]
    model.predict(np.zeros((1, *size), np.uint8))  # the first prediction is slow: it compiles
    return version, model


def serve(host: str, port: int) -> None:
    """Serve the champion until Ctrl-C; SIGHUP loads a new one.

    Raises:
        PromotionError: if there is no usable champion, or if the address is in use.
    """
    try:
        listener = socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise PromotionError(f"{host}:{port}: {one_line(error)}") from error
    # Else an answer waits 40 ms for an acknowledgement; asyncio sets it on its own sockets only.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    port = listener.getsockname()[1]
    champion = Champion()
    if hasattr(signal, "SIGHUP"):
        # In a thread: the old champion answers meanwhile.
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=champion.reload).start())
    _log(f"serving version {champion.current[0]} at http://{host}:{port}{PATH}")
    _log(f"kill -HUP {os.getpid()} loads a new champion; Ctrl-C ends it")
    settings = uvicorn.Config(application(champion), log_level="warning")
    uvicorn.Server(settings).run(sockets=[listener])


def application(champion: Champion) -> FastAPI:
    """Return MLflow's scoring server with short error messages that do not repeat the input."""
    app: FastAPI = scoring_server.init(champion)  # type: ignore[arg-type]

    @app.middleware("http")
    async def check(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Refuse wrong input, and shorten MLflow's errors."""
        if request.url.path != PATH or request.method != "POST":
            return await call_next(request)
        answering_version.set([])
        try:
            if problem := await _problem(request):
                return _error(problem)
            response = await call_next(request)
        except (RecursionError, ValueError):
            return _error("the input is nested too deeply, or a number is too long")
        except ClientDisconnect:
            return _error("the input is not complete")
        if response.status_code >= 400:
            content = b"".join([part async for part in response.body_iterator])  # type: ignore[attr-defined]
            return _error(_shorten(content), response.status_code)
        response.headers["model-version"] = str(*answering_version.get())
        return response

    return app


async def _problem(request: Request) -> str | None:
    """Say what is wrong with a request before MLflow reads it; None: nothing."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        return "Content-Type must be application/json"
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or "transfer-encoding" in request.headers:
        return "Content-Length is needed"
    if int(length) <= MAX_REQUEST:
        return None if INPUT.fullmatch(await request.body()) else WRONG_INPUT
    async for _ in request.stream():
        pass  # its sender reads the answer only when all is sent
    return f"the input has {int(length):,} bytes, the most is {MAX_REQUEST:,}"


def _shorten(content: bytes) -> str:
    """Return the reason of MLflow's error without the input that it repeats."""
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        message = content.decode(errors="replace")
    reason = message.partition("\nInput:")[0].rpartition("Error: ")[2]
    return " ".join(reason.split())[:200]


def _error(message: str, status: int = 400) -> Response:
    return Response(json.dumps({"error": message}), status, media_type="application/json")


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
