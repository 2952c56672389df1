"""Run train.py, and kill it within one certain call: for bench/faults.py.

    python bench/killed.py MODULE:NAME CALL before|after train.py ARGUMENT...

The process gets SIGKILL before (or after) the CALL-th call of a function or method, counted from 1.
"""

import functools
import importlib
import itertools
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any


def die_at(where: str, call: int, after: bool) -> None:
    """Put a function that kills the process at a certain call in the place of another."""
    module, _, name = where.partition(":")
    *parents, own = name.split(".")
    owner: Any = functools.reduce(getattr, parents, importlib.import_module(module))
    usual, calls = getattr(owner, own), itertools.count(1)

    @functools.wraps(usual)
    def deadly(*arguments: Any, **named: Any) -> Any:
        now = next(calls) == call
        if now and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = usual(*arguments, **named)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, own, deadly)


if __name__ == "__main__":
    _, where, call, when, script, *arguments = sys.argv
    sys.path[0] = str(Path(script).resolve().parent)
    die_at(where, int(call), when == "after")
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
