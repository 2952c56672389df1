"""In what the code, the libraries, the machine and the data of a run differ from those here."""

import json
from collections.abc import Iterator
from typing import Any

from fmnist.data.datasets import Dataset
from fmnist.tracking import tag
from fmnist.tracking.artifacts import artifact
from fmnist.tracking.provenance import (
    ENVIRONMENT,
    REQUIREMENTS,
    code_digest,
    environment,
    git_state,
    installed,
)
from fmnist.tracking.store import Run

DIGEST_DIGITS = 12  # that are shown
MAX_LENGTH = 200  # characters of anything else
MAX_PACKAGES = 8  # that are named


def run_differences(run: Run, dataset: Dataset) -> list[str]:
    """Return each difference as "what: of the run, here ..."."""
    tags, git, here, recorded = run.data.tags, git_state(), environment(), _environment_of(run)
    pairs: list[tuple[str, object, object]] = [
        ("commit", tags.get(tag.COMMIT), git.commit),
        ("uncommitted changes", tags.get(tag.PATCH), git.patch_digest),
        ("code of fmnist/", tags.get(tag.CODE), code_digest()),
        ("data", tags.get(tag.DATA), dataset.fingerprint),
        *((key, recorded.get(key), here.get(key)) for key in ("python", "processor", "flags")),
    ]
    lines = [_line(what, then, now) for what, then, now in pairs if then != now]
    return lines + list(_requirements(artifact(run.info.run_id, REQUIREMENTS) or b""))


def _environment_of(run: Run) -> dict[str, Any]:
    """Return what a run recorded; nothing if that is damaged."""
    try:
        return dict(json.loads(artifact(run.info.run_id, ENVIRONMENT) or b"{}"))
    except (ValueError, TypeError):
        return {}


def _requirements(recorded: bytes) -> Iterator[str]:
    then, now = (
        dict(line.partition("==")[::2] for line in text.splitlines())
        for text in (recorded.decode(errors="replace"), installed())
    )
    names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    if names:
        lines = [_line(name, then.get(name), now.get(name)) for name in names[:MAX_PACKAGES]]
        more = len(names) - len(lines)
        yield "requirements: " + ", ".join(lines) + (f" and {more} more" if more else "")


def _line(what: str, then: object, now: object) -> str:
    return f"{what} {_short(then)}, here {_short(now)}"


def _short(value: object) -> str:
    text = str(value or "none")
    is_digest = len(text) > DIGEST_DIGITS and set(text) <= set("0123456789abcdef")
    shown = text[:DIGEST_DIGITS] if is_digest else text[:MAX_LENGTH]
    # Others may have written it: nothing in it shall steer the terminal.
    return "".join(char if char.isprintable() else "?" for char in shown)
