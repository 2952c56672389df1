"""Text for the terminal, which also reads as Markdown."""

import re
from collections.abc import Sequence

from rich.cells import cell_len

MARKUP = re.compile(
    r"""[*`]                                 # emphasis, code
    | (?<![A-Za-z0-9])_ | _(?![A-Za-z0-9])   # emphasis; within a word it is none
    | \\(?=[!-/:-@\[-`{-~])                  # what escapes the others
    | <(?=[A-Za-z/!?])                       # HTML
    | &(?=\#?\w+;)                           # HTML
    | \](?=\()                               # a link
    | ~(?=~)                                 # strikethrough
    | ^[\#>] | ^[+-](?=\s) | ^-(?=-)         # heading, quotation, list, rule
    """,
    re.VERBOSE,
)


def escaped(text: str) -> str:
    """Return plain text as Markdown, in one line."""
    line = MARKUP.sub(r"\\\g<0>", " ".join(text.split()))
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)  # a numbered list


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format a small table; numbers stand on the right."""
    cells = list(zip(*[map(_cell, row) for row in (columns, *rows)], strict=True))
    formatted = []
    for index, column in enumerate(cells):
        width = max(map(cell_len, column))
        spaces = [" " * (width - cell_len(cell)) for cell in column]
        right = any(isinstance(row[index], int | float) for row in rows)
        pairs = zip(spaces, column, strict=True) if right else zip(column, spaces, strict=True)
        heading, *below = (f" {''.join(pair)} " for pair in pairs)
        formatted.append([heading, "-" * (width + 2), *below])
    return "\n".join(f"|{'|'.join(line)}|" for line in zip(*formatted, strict=True))


def _cell(value: object) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", r"\|")
