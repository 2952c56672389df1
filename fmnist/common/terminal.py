"""Tables for the terminal, which also read as Markdown."""

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format a small table; numbers stand on the right."""
    drawing = Table(*columns, box=box.MARKDOWN)
    for row in rows:
        drawing.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row))
    for column, cells in zip(drawing.columns, zip(*rows, strict=True), strict=True):
        column.justify = "right" if any(isinstance(c, int | float) for c in cells) else "left"
    console = Console(file=io.StringIO(), width=1000)
    with console.capture() as capture:
        console.print(drawing)
    return capture.get().strip()
