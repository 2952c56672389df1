"""Plain text stays what it is when it becomes Markdown."""

import re
from html import unescape

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fmnist.common.terminal import escaped, table

NAMES = [
    "a|b",
    "$_$",
    "_x",
    "__x__",
    "*",
    "[/x]",
    "[red]x",
    "`a",
    "<b>",
    "# a",
    "- a",
    "1. a",
    "> a",
]
NAMES += [
    "&lt;",
    "[a](b)",
    "~~a~~",
    "\\",
    "a\\*b",
    "***",
    ":smile:",
    "x_1",
    "---",
    "- -",
    "## a",
    "12) a",
    "3.",
    "\\|",
]


def read(markdown: str) -> list[str]:
    """The texts of a Markdown document as a reader sees them."""
    html = MarkdownIt().enable(["table", "strikethrough"]).render(markdown)
    assert html.count("<li>") <= 1
    assert not re.search(r"<(em|strong|code|h[1-6r]|a|s|b|blockquote|ol)\b", html)
    return [unescape(text) for text in re.findall(r"<(?:td|th|li|p)>(.*?)</", html)]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_read_as_it_is(name):
    assert read(escaped(name)) == [name]
    assert read(f"- {escaped(name)}") == [name]
    cells = table(["name"], [[escaped(name)]])
    assert read(cells) == ["name", name]


@settings(max_examples=1000)
@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), min_size=1))
def test_whatever_the_name(name):
    text = " ".join(name.split())
    assume(text not in ("", "+", "-"))  # the last stands for no value in our tables
    assert read(f"- {escaped(text)}") == [text]


def test_what_our_reports_say_needs_no_escape():
    sentence = "a_b is better: +0.5 points [+0.1, +0.9], p < 0.001; 5 - 3 & 2 > 1, 'x.y' (#3)."
    assert escaped(sentence) == sentence


def test_a_table_has_numbers_on_the_right_and_any_width():
    text = table(["weights", "loss"], [["best", 0.5], ["字", 10]])
    assert text.splitlines() == [
        "| weights |   loss |",
        "|---------|--------|",
        "| best    | 0.5000 |",
        "| 字      |     10 |",
    ]
    assert "\n" not in table(["a" * 2000], []).partition("\n")[0]
    assert table([], []) == ""
