"""Where a run comes from (code, libraries, machine, command), and how that differs from here."""

import hashlib
import json
import platform
import shlex
import sysconfig
from collections.abc import Iterable
from functools import cache
from importlib.metadata import distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fmnist import PROJECT, __version__
from fmnist.config.instantiate import targets
from fmnist.config.schema import NON_RESULT_PARAMS, Config
from fmnist.data.datasets import Dataset
from fmnist.tracking import tag
from fmnist.tracking.artifacts import artifact
from fmnist.tracking.git import UNKNOWN, git_state
from fmnist.tracking.job_context import JobContext
from fmnist.tracking.store import Run
from fmnist.training import devices

CHANGES, REQUIREMENTS = "code/uncommitted.diff", "environment/requirements.txt"
"""Where a run keeps these, among its artifacts."""

ENVIRONMENT = "environment/environment.json"
LIBRARIES = ("mlflow", "hydra-core", "scikit-learn", "matplotlib")
NOT_OF_A_RUN = ("tracking.", "rerun=")  # begin overrides that do not say what a run is
CODE_FOLDERS = ("fmnist", "hydra_plugins")
NOT_OWN = {"fmnist", "keras", "tensorflow"}  # the first names of modules that are not the user's
DIGEST_DIGITS, MAX_LENGTH = 12, 200  # characters that are shown of a digest, and of anything else
MAX_PACKAGES = 8  # that are named


def command(config: Config, context: JobContext) -> str:
    """Return the shell command that repeats this run alone, without where it was tracked."""
    overrides = list(context.overrides)  # not resolved: ${output_dir} shall be the repeated run's
    given = any(o.startswith("training.threads=") for o in overrides)
    if not given and context.threads not in (None, devices.usable_processors()):
        overrides.append(f"training.threads={config.training.threads}")
    return train_command([*context.options, *overrides])


def train_command(arguments: Iterable[str]) -> str:
    """Return the shell command of `train.py`, without where it is tracked."""
    return shlex.join(["python", "train.py", *result_overrides(arguments)])


def result_overrides(overrides: Iterable[str]) -> list[str]:
    """Return the overrides that affect the result of a run."""
    return [o for o in overrides if not o.lstrip("+").startswith(NOT_OF_A_RUN)]


def environment() -> dict[str, Any]:
    """Return versions, processor, thread counts and flags, which affect the weights or speed."""
    return devices.numerics() | {
        "fmnist": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "processors_usable": devices.usable_processors(),
        **devices.threads(),
    }


def signature(config: Config, fingerprint: str) -> str:
    """Return a SHA-256 that two runs share if they come to the same weights, bit for bit."""
    params = {k: v for k, v in config.params().items() if k not in NON_RESULT_PARAMS}
    content = [params, fingerprint, code_digest(own_modules(config)), devices.numerics()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def code_digest(own: tuple[Path, ...] = (), project: Path = PROJECT) -> str:
    """Return the SHA-256 (hexadecimal) of the Python files that can affect a run.

    These are the package, its plugins, train.py, and `own`. The files of conf/ are none of them:
    what they compose to is recorded value by value.
    """
    digest = hashlib.sha256()
    inside = [path for name in CODE_FOLDERS for path in (project / name).rglob("*.py")]
    for path in [*sorted(inside), project / "train.py", *own]:
        content = path.read_bytes()
        name = path.relative_to(project).as_posix() if path.is_relative_to(project) else path.name
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def own_modules(config: Config) -> tuple[Path, ...]:
    """Return the source files of the user's own modules that a configuration names."""
    named = {target.rpartition(".")[0] for _, target in targets(config.result_config(), "")}
    files = filter(None, map(_source_file, sorted(named)))
    libraries = tuple(sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib"))
    return tuple(file for file in files if not str(file).startswith(libraries))


def _source_file(module: str) -> Path | None:
    if module.partition(".")[0] in NOT_OWN:
        return None
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):  # what builds the object says so
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@cache
def installed() -> str:
    """Return every installed distribution as the lines of a requirements file."""
    return "\n".join(sorted({f"{d.name}=={d.version}" for d in distributions()}, key=str.lower))


def run_differences(run: Run, config: Config, dataset: Dataset) -> list[str]:
    """Return each difference between what a run recorded and what is here, in words."""
    tags, here, recorded = run.data.tags, environment(), _environment_of(run)
    own = own_modules(config)
    git = git_state(own=own)
    pairs: list[tuple[str, object, object]] = [
        ("commit", tags.get(tag.COMMIT), git.commit or UNKNOWN),
        ("uncommitted changes", tags.get(tag.PATCH), git.patch_digest),
        ("code of fmnist/", tags.get(tag.CODE), code_digest(own)),
        ("data", tags.get(tag.DATA), dataset.fingerprint),
        *((key, recorded.get(key), here.get(key)) for key in ("python", "processor", "flags")),
    ]
    lines = [_line(what, then, now) for what, then, now in pairs if then != now]
    packages = _package_differences(artifact(run.info.run_id, REQUIREMENTS) or b"")
    if packages:
        more = len(packages) - MAX_PACKAGES
        named = ", ".join(packages[:MAX_PACKAGES])
        lines.append(f"requirements: {named}" + (f" and {more} more" if more > 0 else ""))
    return lines


def _environment_of(run: Run) -> dict[str, Any]:
    try:
        return dict(json.loads(artifact(run.info.run_id, ENVIRONMENT) or b"{}"))
    except (ValueError, TypeError):  # it is damaged
        return {}


def _package_differences(recorded: bytes) -> list[str]:
    then, now = (
        dict(line.partition("==")[::2] for line in text.splitlines())
        for text in (recorded.decode(errors="replace"), installed())
    )
    names = sorted({*then, *now})
    return [_line(n, then.get(n), now.get(n)) for n in names if then.get(n) != now.get(n)]


def _line(what: str, then: object, now: object) -> str:
    return f"{what} {_short(then)}, here {_short(now)}"


def _short(value: object) -> str:
    text = str(value or "none")
    is_digest = len(text) > DIGEST_DIGITS and set(text) <= set("0123456789abcdef")
    shown = text[:DIGEST_DIGITS] if is_digest else text[:MAX_LENGTH]
    # Others may have written it: nothing in it shall steer the terminal.
    return "".join(char if char.isprintable() else "?" for char in shown)
