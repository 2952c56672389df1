"""The size of the rooms: what a reader can take in at once."""

import ast

import pytest

from fmnist import PROJECT

MODULES = sorted(
    path
    for folder in ("fmnist", "hydra_plugins")
    for path in (PROJECT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
)
LONGEST_FUNCTION, LONGEST_MODULE = 40, 250  # lines, docstrings and blank lines included
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_modules_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_MODULE
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, FUNCTIONS)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}
