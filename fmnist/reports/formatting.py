"""How reports write numbers and tables."""

import math
from collections.abc import Mapping, Sequence

from fmnist.common.terminal import escaped, table
from fmnist.evidence.statistics import Estimate

Record = dict[str, str]  # a row of a table: its cells by column
Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # columns and rows


def tabulate(records: Sequence[Record]) -> Table:
    """Return a table of rows that have the same columns; those that are all empty are left out."""
    if not records:
        return [], []
    columns = [key for key in records[0] if any(record[key] for record in records)]
    return columns, [[record[key] for key in columns] for record in records]


def markdown_table(content: Table) -> str:
    """Return a table of plain texts as Markdown."""
    columns, rows = content
    return table([*map(escaped, columns)], [[escaped(cell) for cell in row] for row in rows])


def percent(estimate: Estimate) -> str:
    """Write a mean of fractions in percent, with half the width of its interval."""
    if math.isnan(estimate.mean):
        return "-"
    mean = f"{100 * estimate.mean:.2f}"
    if math.isnan(estimate.low):
        return mean
    return f"{mean} ± {50 * (estimate.high - estimate.low):.2f}"


def percent_by_seed(values: Mapping[int, float]) -> str:
    """Write fractions in percent, in the order of the seeds."""
    return " ".join(f"{100 * values[seed]:.2f}" for seed in sorted(values))


def points(difference: Estimate) -> str:
    """Write a difference of accuracies in percentage points, with its interval."""
    if math.isnan(difference.low):
        return "-"
    low, mean, high = (100 * v for v in (difference.low, difference.mean, difference.high))
    return f"{mean:+.2f} points [{low:+.2f}, {high:+.2f}]"


def significance(p: float) -> str:
    """Write a p-value: "p = 0.031", "p < 0.001"; "-" if there is none."""
    if math.isnan(p):
        return "-"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
