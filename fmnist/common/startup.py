"""What is done to the process as a whole; each line with its reason and what it saves."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NOTICE = re.compile(r"(WARNING: All log messages before absl|[IWE]\d{4} \d\d:\d\d:\d\d|To enable )")



@contextmanager
def without_start_up_notices() -> Iterator[None]:
    """Keep TensorFlow's C++ notices off standard error while it is imported.

    TF_CPP_MIN_LOG_LEVEL does not reach what is written before absl's log is set up, so the file
    descriptor itself is held back; any other line, and everything if the import fails, is passed
    on afterwards. A user who sets TF_CPP_MIN_LOG_LEVEL below 3 sees it all.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    failed = True
    with tempfile.TemporaryFile("w+", errors="replace") as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held_back.seek(0)
            sys.stderr.writelines(line for line in held_back if failed or not NOTICE.match(line))


@contextmanager
def without_modules(*names: str) -> Iterator[None]:
    """Let imports find none of these modules, unless they are imported already.

    Keras imports matplotlib and scikit-learn, should it find them, for what is not used here;
    that is a third of its start-up time.
    """
    absent = [name for name in names if name not in sys.modules]
    modules: dict[str, Any] = dict.fromkeys(absent)  # None is Python's own mark of the unimportable
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def importing_tensorflow() -> Iterator[None]:
    """Import TensorFlow and Keras here: without notices, and without what is not needed."""
    with without_start_up_notices(), without_modules("matplotlib", "sklearn"):
        yield
