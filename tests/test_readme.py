"""What the README and its pages point to is there."""

import re

import pytest

from fmnist import PROJECT

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
ARCHITECTURE = PROJECT / "docs" / "architecture.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_links_is_there(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    files = {link for link in links if not re.match(r"\w+:", link)}
    assert [file for file in files if not (page.parent / file).exists()] == []


def test_the_map_names_every_package():
    packages = {path.parent.name for path in (PROJECT / "fmnist").glob("*/__init__.py")}
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert {name for name in packages if not re.search(rf"\b{name}\b", text)} == set()
