"""One source of truth for the environment: its files agree."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from conftest import PROJECT

PROJECT_TABLE = tomllib.loads((PROJECT / "pyproject.toml").read_text())
RUNTIME = PROJECT_TABLE["project"]["dependencies"]
EXTRA = PROJECT_TABLE["project"]["optional-dependencies"]["cluster"]
TESTING = [*RUNTIME, *EXTRA, *PROJECT_TABLE["dependency-groups"]["dev"]]


def pins(name: str) -> list[Requirement]:
    lines = (PROJECT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


LOCKS = {"requirements.txt": RUNTIME, "tests/requirements.txt": TESTING}


@pytest.mark.parametrize(("lock", "lines"), LOCKS.items())
def test_every_direct_dependency_is_pinned_within_its_range(lock, lines):
    for direct in map(Requirement, lines):
        found = [pin for pin in pins(lock) if pin.name.lower() == direct.name.lower()]
        assert found, f"{direct.name} is not in {lock}: make lock"
        for pin in found:
            [specifier] = pin.specifier
            assert specifier.version in direct.specifier, f"{pin} does not fit {direct}: make lock"


def test_requirements_pin_exactly_and_name_no_registry():
    for lock in LOCKS:
        assert all(len(p.specifier) == 1 and str(p.specifier).startswith("==") for p in pins(lock))
    for name in (*LOCKS, "pyproject.toml", "conda.yaml", "python_env.yaml"):
        assert not re.search(r"index-url|find-links|://", (PROJECT / name).read_text()), name


def test_the_base_is_small_and_the_extras_change_nothing_of_it():
    base, whole = (set(map(str, pins(lock))) for lock in LOCKS)
    assert base < whole
    names = {pin.name for pin in pins("requirements.txt")}
    assert not names & {Requirement(line).name for line in EXTRA}


def test_conda_takes_the_same_pins_and_a_python_that_the_project_allows():
    conda = yaml.safe_load((PROJECT / "conda.yaml").read_text())
    python, pip, packages = conda["dependencies"]
    assert (pip, packages) == ("pip", {"pip": ["-r requirements.txt"]})
    allowed = SpecifierSet(PROJECT_TABLE["project"]["requires-python"])
    assert python.removeprefix("python=") in allowed
    virtualenv = yaml.safe_load((PROJECT / "python_env.yaml").read_text())
    assert virtualenv == {"python": python.removeprefix("python="), "dependencies": packages["pip"]}


def test_this_environment_is_the_pinned_one():
    from importlib.metadata import version

    for pin in pins("tests/requirements.txt"):
        if pin.marker is None or pin.marker.evaluate():
            assert version(pin.name) in pin.specifier, f"{pin}: make test installs it"
