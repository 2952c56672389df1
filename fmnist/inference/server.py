"""A model over HTTP: MLflow's scoring server behind a strict check of the input."""

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
from urllib.parse import quote

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from mlflow.pyfunc import scoring_server
from starlette.requests import ClientDisconnect

from fmnist.common.errors import PromotionError, one_line
from fmnist.registry.answering import AnsweringModel

PATH = "/invocations"
MAX_REQUEST = 16 * 2**20  # bytes; an image of 28 x 28 takes about 3,000

# MLflow would convert anything else that looks like a number: 0.5 to 0.
INPUT = re.compile(rb'\s*\{\s*"(inputs|instances)"\s*:[-\d\[\],\s]*\}\s*')
WRONG_INPUT = 'the input must be {"inputs": images}, each image rows of whole numbers from 0 to 255'

answering_model: ContextVar[list[AnsweringModel]] = ContextVar("answering_model")  # of a request


class ServedModel:
    """A model as the scoring server takes it; a new champion can replace it.

    Args:
        load: loads it, and later the one that replaces it.
    """

    def __init__(self, load: Callable[[], AnsweringModel]) -> None:
        self.load = load
        self.current = _warm(load())  # replaced at once
        self.lock = threading.Lock()

    @property
    def metadata(self) -> Any:
        return self.current.model.metadata

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Return the probabilities, a column for each class by name."""
        current = self.current
        answering_model.get().append(current)
        return current.model.predict(data, params=params)

    def reload(self) -> None:
        """Load the present champion; if that fails, say so and keep the old one."""
        with self.lock:
            try:
                loaded = _warm(self.load())
                if loaded.model.metadata.signature != self.metadata.signature:
                    raise PromotionError(f"{loaded}: has another signature; restart")
                self.current = loaded
            except Exception as error:  # whatever it is, the old one can serve
                _log(f"error: {one_line(error)}; still serving {self.current}")
            else:
                _log(f"serving {loaded}")


def _warm(loaded: AnsweringModel) -> AnsweringModel:
    size = loaded.model.metadata.signature.inputs.inputs[0].shape[1:]
    loaded.model.predict(np.zeros((1, *size), np.uint8))  # the first one is slow: it compiles
    return loaded


def serve(load: Callable[[], AnsweringModel], host: str, port: int) -> None:
    """Serve the model that `load` returns until Ctrl-C; SIGHUP loads it anew.

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
    served = ServedModel(load)
    if hasattr(signal, "SIGHUP"):
        # In a thread: the old champion answers meanwhile.
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=served.reload).start())
    _log(f"serving {served.current} at http://{host}:{port}{PATH}")
    reload = f"kill -HUP {os.getpid()} loads a new champion; " if served.current.version else ""
    _log(f"{reload}Ctrl-C ends it")
    settings = uvicorn.Config(application(served), log_level="warning")
    uvicorn.Server(settings).run(sockets=[listener])


def application(served: ServedModel) -> FastAPI:
    """Return MLflow's scoring server with short error messages that do not repeat the input."""
    app: FastAPI = scoring_server.init(served)  # type: ignore[arg-type]

    @app.middleware("http")
    async def check(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Refuse wrong input, and shorten MLflow's errors."""
        if request.url.path != PATH or request.method != "POST":
            return await call_next(request)
        answering_model.set([])
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
        response.headers.update(_headers(*answering_model.get()))
        return response

    return app


def _headers(answering: AnsweringModel) -> dict[str, str]:
    """Return what says which model answered; headers take no other letters than ASCII."""
    version = {"model-version": str(answering.version)} if answering.version else {}
    named = {"model": answering.uri, "model-data-set": answering.data_set}
    return version | {name: quote(value, safe=":/ ") for name, value in named.items()}


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
