"""What the README and its pages point to is there."""

import re

import pytest

from fmnist import PROJECT

README = PROJECT / "README.md"
DOCS = sorted((PROJECT / "docs").glob("*.md"))
PAGES = [README, PROJECT / "CONTRIBUTING.md", *DOCS]
ARCHITECTURE = PROJECT / "docs" / "architecture.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_links_is_there(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    files = {link for link in links if not re.match(r"\w+:", link)}
    assert [file for file in files if not (page.parent / file).exists()] == []


def test_the_readme_is_read_in_one_sitting():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 220
    assert len(text.encode()) <= 14_000


def test_a_sentence_of_the_readme_has_at_most_thirty_words():
    text = re.sub(
        r"```.*?```|^[|#!].*?$", "", README.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    plain = re.sub(r"\]\([^)]*\)", "]", text)
    sentences = re.split(r"(?<=[.?!:])\s+(?=[A-Z`\[*])|\n\n|\n- ", plain)
    assert [sentence for sentence in sentences if len(sentence.split()) > 30] == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_page_says_what_it_is_for_and_where_to_go_on(page):
    title, blank, first, *rest = page.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ") and not blank and first.startswith("Read this page")
    assert len(rest) <= 200
    assert re.match(r"(Next|Back to the README|Back to the \[README)", rest[-1])


def test_the_readme_names_every_page():
    text = README.read_text(encoding="utf-8")
    assert [page.name for page in DOCS if f"docs/{page.name})" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_to_a_heading_finds_it(page):
    for name, anchor in re.findall(
        r"\]\(([^)#\s:]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")
    ):
        target = (page.parent / name if name else page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", target, re.MULTILINE)
        slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert anchor in slugs, f"{name}#{anchor}"


def test_the_map_names_every_package():
    packages = {path.parent.name for path in (PROJECT / "fmnist").glob("*/__init__.py")}
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert {name for name in packages if not re.search(rf"\b{name}\b", text)} == set()
