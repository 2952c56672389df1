"""The champion over HTTP: MLflow's own scoring server, with a guard before it."""

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

LONGEST = 16 * 2**20  # bytes of a request; an image of 28 x 28 takes about 3,000
DRAINED = 4 * LONGEST  # bytes read of a longer one, so that its sender gets to read the answer
MESSAGE_LENGTH = 200  # characters
VERSION_HEADER = "model-version"

# MLflow would make whole numbers of anything else that looks like a number: 0 of 0.5.
FORM = re.compile(rb'\s*\{\s*"(inputs|instances)"\s*:[-\d\[\],\s]*\}\s*')


answered_by: ContextVar[list[int]] = ContextVar("answered_by")  # of the request under way


class Champion:
    """The champion as the scoring server takes a model; a new champion can take its place."""

    def __init__(self) -> None:
        self.current = _loaded()
        self.renewing = threading.Lock()

    @property
    def metadata(self) -> Any:
        """Signature and so on, as MLflow keeps them."""
        return self.current[1].metadata

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Answer as the model does."""
        version, model = self.current
        answered_by.get().append(version)
        return model.predict(data, params=params)

    def renew(self) -> None:
        """Take up the present champion; if that cannot be, say so and go on with the old one."""
        with self.renewing:
            try:
                version, model = _loaded()
                if model.metadata.signature != self.metadata.signature:
                    raise PromotionError(f"version {version}: takes or names other things; restart")
                self.current = version, model
            except Exception as error:  # whatever it is, the old one can serve
                _say(f"error: {one_line(error)}; still serving version {self.current[0]}")
            else:
                _say(f"serving version {version}")


def _loaded() -> tuple[int, Any]:
    version, model = versions.load_champion()
    size = model.metadata.signature.inputs.inputs[0].shape[1:]
    # The first answer takes longer than any other: nobody shall wait for it.
    model.predict(np.zeros((1, *size), np.uint8))
    return version, model


def serve(host: str, port: int) -> None:
    """Serve the champion until Ctrl-C; SIGHUP takes up a new one.

    Raises:
        PromotionError: if there is no champion, if its model is missing or was altered, or if the
            address is taken.
    """
    try:
        listening = socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise PromotionError(f"{host}:{port}: {one_line(error)}") from error
    # Else an answer waits 40 ms for an acknowledgement; asyncio sees to its own sockets only.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    port = listening.getsockname()[1]
    champion = Champion()
    if hasattr(signal, "SIGHUP"):
        # In a thread: requests are answered by the old champion meanwhile.
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=champion.renew).start())
    _say(f"serving version {champion.current[0]} at http://{host}:{port}{PATH}")
    _say(f"kill -HUP {os.getpid()} takes up a new champion; Ctrl-C ends it")
    settings = uvicorn.Config(application(champion), log_level="warning")
    uvicorn.Server(settings).run(sockets=[listening])


def application(champion: Champion) -> FastAPI:
    """Return MLflow's scoring server, whose refusals are short and repeat no input."""
    app: FastAPI = scoring_server.init(champion)  # type: ignore[arg-type]

    @app.middleware("http")
    async def guard(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Let pass what is of the right form, and shorten what MLflow says of the rest."""
        if request.url.path != PATH or request.method != "POST":
            return await call_next(request)
        answered_by.set([])
        try:
            refusal = await _refusal(request)
            if refusal:
                return _refused(refusal)
            response = await call_next(request)
        except (RecursionError, ValueError):
            return _refused("the input is nested too deeply, or a number is too long")
        except ClientDisconnect:
            return _refused("the input is not complete")
        if response.status_code >= 400:
            content = b"".join([part async for part in response.body_iterator])  # type: ignore[attr-defined]
            return _refused(short(content), response.status_code)
        response.headers[VERSION_HEADER] = str(*answered_by.get())
        return response

    return app


async def _refusal(request: Request) -> str | None:
    """Say why a request is refused before MLflow reads it, if it is."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        return "Content-Type must be application/json"
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or "transfer-encoding" in request.headers:
        return "Content-Length is needed"
    if int(length) <= LONGEST:
        meant = '{"inputs": images}, each image rows of whole numbers from 0 to 255'
        return None if FORM.fullmatch(await request.body()) else f"the input must be {meant}"
    drained = 0
    async for part in request.stream():
        drained += len(part)
        if drained > DRAINED:
            break
    return f"the input has {int(length):,} bytes, the most is {LONGEST:,}"


def short(content: bytes) -> str:
    """Return what was wrong, of MLflow's error, without the input that it repeats."""
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        message = content.decode(errors="replace")
    message = message.partition("\nInput:")[0]
    reason = re.split(r"Error: ", message)[-1]
    return " ".join(reason.split())[:MESSAGE_LENGTH]


def _refused(message: str, status: int = 400) -> Response:
    return Response(json.dumps({"error": message}), status, media_type="application/json")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
