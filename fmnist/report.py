"""A comparison to read: as Markdown (also for the terminal), JSON and one HTML page."""

import base64
import dataclasses
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment
from matplotlib.figure import Figure

from fmnist.comparison import METRICS, Comparison, Variant
from fmnist.statistics import Estimate
from fmnist.terminal import table
from fmnist.verdicts import conclusions, margin, points, significance, verdict

FOOTNOTE = (
    "± and [] are 95 % intervals of the mean (Student's t); best epoch is a median. p is of the "
    "paired t-test over the seeds, corrected for the number of variants (Holm); validation "
    "decides, test never does."
)


def markdown(comparison: Comparison) -> str:
    """Return statement, tables, verdicts and what to bear in mind, as Markdown."""
    tables = [table(*content) for content in _tables(comparison)]
    parts = [f"{comparison.statement.question}\n({_stated(comparison)})", *tables]
    if sentences := conclusions(comparison):
        parts.append("\n".join(sentences))
    if comparison.departures:
        parts.append("Bear in mind:\n" + "\n".join(f"- {d}" for d in comparison.departures))
    return "\n\n".join([*parts, FOOTNOTE])


def html(comparison: Comparison, pictures: Mapping[str, Figure]) -> str:
    """Return one page that needs no other file: statement, verdicts, tables and the pictures.

    Args:
        comparison: what it is about.
        pictures: by title.
    """
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    return (
        Environment(autoescape=True, trim_blocks=True)
        .from_string(template)
        .render(
            statement=comparison.statement,
            stated=_stated(comparison),
            conclusions=list(zip(comparison.variants[1:], conclusions(comparison), strict=True)),
            tables=_tables(comparison),
            departures=comparison.departures,
            pictures={title: _png(figure) for title, figure in pictures.items()},
            footnote=FOOTNOTE,
        )
    )


def _png(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return base64.b64encode(content.getvalue()).decode()


def as_json(comparison: Comparison) -> str:
    """Return all numbers of the comparison as JSON; what could not be computed is null."""
    content = dataclasses.asdict(comparison) | {"conclusions": conclusions(comparison)}
    return json.dumps(_finite(content), indent=1)


def _stated(comparison: Comparison) -> str:
    statement, baseline = comparison.statement, comparison.variants[0].name
    planned = f"planned variants: {statement.variants}" if statement.variants else "variants"
    if statement.seeds:
        planned += f", seeds {', '.join(map(str, statement.seeds))}"
    return (
        f"{statement.metric} decides; {planned}; by {', '.join(statement.by)}; baseline "
        f"{baseline}; a difference matters from {margin(statement)}"
    )


def _tables(comparison: Comparison) -> list[tuple[list[str], list[list[str]]]]:
    """Return columns and rows of the means, and, if there are any, of the differences."""
    differences = [_differences(comparison)] if len(comparison.variants) > 1 else []
    return [_means(comparison), *differences]


def _means(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    metric = comparison.statement.metric
    columns = ["variant", "seeds", f"{metric} %", "by seed", f"{METRICS[metric]} %"]
    columns += ["best epoch", "parameters", "s an epoch"]
    rows = [_mean_row(variant) for variant in comparison.variants]
    if any(variant.unfinished for variant in comparison.variants):
        columns.append("not finished")
        for row, variant in zip(rows, comparison.variants, strict=True):
            row.append(", ".join(f"{n} {status}" for status, n in variant.unfinished.items()))
    return columns, rows


def _mean_row(variant: Variant) -> list[str]:
    return [
        variant.name,
        str(variant.estimate.n),
        _percent(variant.estimate),
        " ".join(f"{100 * variant.values[seed]:.2f}" for seed in sorted(variant.values)),
        _percent(variant.test),
        _number(variant.best_epoch, ".1f"),
        _number(variant.parameters, ",.0f"),
        _number(variant.epoch_seconds, ".2f"),
    ]


def _differences(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    baseline, *others = comparison.variants
    rows = []
    for variant in others:
        difference = variant.difference
        assert difference is not None
        size = points(difference.estimate) if difference.estimate.n > 1 else "-"
        pairs = str(difference.estimate.n)
        p = "-" if math.isnan(difference.p) else significance(difference.p)
        rows.append([variant.name, pairs, size, p, verdict(comparison, variant)])
    return [f"against {baseline.name}", "pairs", "difference", "p", "verdict"], rows


def _percent(estimate: Estimate) -> str:
    if math.isnan(estimate.mean):
        return "-"
    mean = f"{100 * estimate.mean:.2f}"
    if math.isnan(estimate.low):
        return mean
    return f"{mean} ± {50 * (estimate.high - estimate.low):.2f}"


def _number(value: float, how: str) -> str:
    return "-" if math.isnan(value) else format(value, how)


def _finite(node: object) -> object:
    if isinstance(node, dict):
        return {str(key): _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
