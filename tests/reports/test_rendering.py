"""One Markdown text: rendered on a terminal, as it is anywhere else."""

import json
import re

import pytest

from fmnist.common.terminal import table
from fmnist.reports.rendering import print_markdown, to_json

COLUMNS = ["variant", "seeds", "by seed", "best_test_accuracy %", "parameters", "s an epoch"]
ROWS = [["relu", "3", "86.94 87.92 87.32", "86.30 ± 0.30", "271,410", "1.39"]]
TEXT = f"## Is a_b_c better?\n\n{table(COLUMNS, ROWS)}\n\n- **it is better**\n- it is not"


@pytest.fixture
def terminal(monkeypatch):
    def set_width(columns):
        for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": columns}.items():
            monkeypatch.setenv(name, str(value))

    return set_width


def plain(text):
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def test_elsewhere_than_on_a_terminal_markdown_is_printed_as_it_is(capsys):
    print_markdown(TEXT)
    assert capsys.readouterr().out == f"{TEXT}\n"


def test_a_terminal_shows_tables_and_bold_sentences(terminal, capsys):
    terminal(120)
    print_markdown(TEXT)
    shown = capsys.readouterr().out
    assert re.search(r"\x1b\[1mit is better\x1b\[0m", shown)
    assert not re.search(r"\||\*\*|##", plain(shown))
    assert plain(shown).count("relu") == 1


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_table_that_is_too_wide_goes_on_below(terminal, capsys, width):
    terminal(width)
    print_markdown(TEXT)
    lines = [line.rstrip() for line in plain(capsys.readouterr().out).splitlines()]
    assert max(map(len, lines)) <= width
    parts = [line for line in lines if line.strip().startswith("relu")]
    assert len(parts) == {40: 3, 60: 2, 80: 2}[width]
    for cell in ROWS[0]:
        assert any(cell in line for line in parts), cell
    for heading in COLUMNS:
        assert any(heading in line for line in lines), heading


def test_json_has_null_for_what_is_not_finite():
    content = {"values": (0.5, float("nan")), 3: [float("inf")]}
    assert json.loads(to_json(content)) == {"values": [0.5, None], "3": [None]}
