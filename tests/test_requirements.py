"""One source of truth for the environment: its three files agree."""

import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from conftest import PROJECT

PROJECT_TABLE = tomllib.loads((PROJECT / "pyproject.toml").read_text())
DIRECT = [
    Requirement(line)
    for line in PROJECT_TABLE["project"]["dependencies"] + PROJECT_TABLE["dependency-groups"]["dev"]
]
PINS = [
    Requirement(line)
    for line in (PROJECT / "requirements.txt").read_text().splitlines()
    if not line.startswith("#")
]


def test_every_direct_dependency_is_pinned_within_its_range():
    for direct in DIRECT:
        pins = [pin for pin in PINS if pin.name.lower() == direct.name.lower()]
        assert pins, f"{direct.name} is not in requirements.txt: make lock"
        for pin in pins:
            [specifier] = pin.specifier
            assert specifier.version in direct.specifier, f"{pin} does not fit {direct}: make lock"


def test_requirements_pin_exactly_and_name_no_registry():
    assert all(len(p.specifier) == 1 and str(p.specifier).startswith("==") for p in PINS)
    for name in ("requirements.txt", "pyproject.toml", "conda.yaml"):
        assert not re.search(r"index-url|find-links|://", (PROJECT / name).read_text()), name


def test_conda_takes_the_same_pins_and_a_python_that_the_project_allows():
    conda = yaml.safe_load((PROJECT / "conda.yaml").read_text())
    python, pip, packages = conda["dependencies"]
    assert (pip, packages) == ("pip", {"pip": ["-r requirements.txt"]})
    allowed = SpecifierSet(PROJECT_TABLE["project"]["requires-python"])
    assert python.removeprefix("python=") in allowed


def test_this_environment_is_the_pinned_one():
    from importlib.metadata import version

    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate():
            assert version(pin.name) in pin.specifier, f"{pin}: make train installs it"
