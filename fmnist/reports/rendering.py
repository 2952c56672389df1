"""How reports reach the reader: Markdown on a terminal, HTML pages and JSON."""

import base64
import json
import math
from collections.abc import Iterator, Mapping
from typing import ClassVar

from jinja2 import Environment, PackageLoader
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, TableElement
from rich.table import Column, Table
from rich.text import Text


def print_markdown(text: str) -> None:
    """Print Markdown: rendered on a terminal, as it is anywhere else."""
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(_TerminalMarkdown(text))
    else:
        print(text)


def html_page(template: str, pictures: Mapping[str, bytes], **values: object) -> str:
    """Return a page that needs no other file, with pictures, PNG, by title."""
    environment = Environment(
        loader=PackageLoader("fmnist.reports"), autoescape=True, trim_blocks=True
    )
    images = {title: base64.b64encode(picture).decode() for title, picture in pictures.items()}
    return environment.get_template(template).render(pictures=images, **values)


def to_json(content: object) -> str:
    """Return nested values as JSON; null stands for numbers that are not finite."""
    return json.dumps(_finite(content), indent=1)


class _FoldedTable(TableElement):
    """A table that goes on below, its row labels repeated, where the terminal is too narrow."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            assert isinstance(table, Table)
            for columns in _blocks(table.columns, options.max_width):
                block = Table(box=table.box, pad_edge=False, collapse_padding=True)
                for column in columns:
                    block.add_column(column.header)
                for cells in zip(*(column.cells for column in columns), strict=True):
                    block.add_row(*cells)
                yield block


class _TerminalMarkdown(Markdown):
    elements: ClassVar = {**Markdown.elements, "table_open": _FoldedTable}


def _blocks(columns: list[Column], width: int) -> Iterator[list[Column]]:
    """Yield the columns that label the rows, each time with as many others as fit into `width`."""
    texts = [[cell.plain for cell in column.cells if isinstance(cell, Text)] for column in columns]
    rows = list(zip(*texts, strict=True))
    labels = next((n for n in range(1, len(columns)) if len({r[:n] for r in rows}) == len(rows)), 1)
    block = columns[:labels]
    for column in columns[labels:]:
        if len(block) > labels and sum(map(_width, [*block, column])) > width:
            yield block
            block = columns[:labels]
        block.append(column)
    yield block


def _width(column: Column) -> int:
    texts = [cell for cell in (column.header, *column.cells) if isinstance(cell, Text)]
    return max(text.cell_len for text in texts) + 2  # the gap to the next column


def _finite(node: object) -> object:
    if isinstance(node, Mapping):
        return {str(key): _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
