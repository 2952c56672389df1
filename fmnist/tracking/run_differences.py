"""In what the code, the libraries, the machine and the data of a run differ from those here."""

import json
from collections.abc import Iterator
from typing import Any

from mlflow.entities import Run

from fmnist.data.datasets import Dataset
from fmnist.tracking.artifacts import artifact
from fmnist.tracking.provenance import (
    ENVIRONMENT,
    REQUIREMENTS,
    code_digest,
    commit,
    environment,
    installed,
    short_digest,
    uncommitted,
)

SHOWN = 12  # digits of a digest
LONGEST = 200  # characters of anything else
PACKAGES = 8  # that are named


def run_differences(run: Run, dataset: Dataset) -> list[str]:
    """Return each difference, as "what: of the run; here ..."."""
    return list(_differences(run, dataset))


def _differences(run: Run, dataset: Dataset) -> Iterator[str]:
    tags, patch = run.data.tags, uncommitted()
    for what, then, now in (
        ("commit", tags.get("mlflow.source.git.commit"), commit()),
        ("uncommitted changes", tags.get("git.patch"), short_digest(patch) if patch else None),
        ("code of fmnist/", tags.get("code.digest"), code_digest()),
        ("data", tags.get("data.fingerprint"), dataset.fingerprint),
    ):
        if then != now:
            yield _told(what, then, now)
    here, recorded = environment(), _environment_of(run)
    for what in ("python", "processor", "flags"):
        if recorded.get(what) != here.get(what):
            yield _told(what, recorded.get(what), here.get(what))
    yield from _requirements(artifact(run.info.run_id, REQUIREMENTS) or b"")


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
    differing = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    if differing:
        named = [_told(name, then.get(name), now.get(name)) for name in differing[:PACKAGES]]
        more = len(differing) - len(named)
        yield "requirements: " + ", ".join(named) + (f" and {more} more" if more else "")


def _told(what: str, then: object, now: object) -> str:
    return f"{what} {_short(then)}, here {_short(now)}"


def _short(value: object) -> str:
    text = str(value or "none")
    is_digest = len(text) > SHOWN and set(text) <= set("0123456789abcdef")
    shown = text[:SHOWN] if is_digest else text[:LONGEST]
    return "".join(one if one.isprintable() else "?" for one in shown)  # it is others' text
