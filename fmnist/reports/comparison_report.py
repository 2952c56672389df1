"""A comparison to read: on the terminal, as Markdown, as JSON and as one HTML page."""

import base64
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fmnist.common.terminal import table
from fmnist.evidence import layer_health
from fmnist.evidence.comparison import METRICS, Comparison, Variant
from fmnist.evidence.statistics import Estimate, Verdict
from fmnist.reports.verdicts import conclusions, highest, margin, points, significance, verdict

Healths = Mapping[str, layer_health.Health]

STYLES = {Verdict.better: "green", Verdict.worse: "red", Verdict.equivalent: "cyan"}

FOOTNOTE = (
    "± and [] are 95 % intervals of the mean (Student's t); best epoch is a median. p is of the "
    "paired t-test over the seeds, corrected for the number of variants (Holm); the intervals are "
    "not, so one may exclude 0 where p gives no evidence. Validation decides, test never does."
)


def show(comparison: Comparison, healths: Healths) -> None:
    """Print the comparison: coloured tables on a terminal, Markdown anywhere else."""
    console = Console(highlight=False)
    if not console.is_terminal:
        print(markdown(comparison, healths))
        return
    console.print(Text(comparison.design.question, "bold"))
    console.print(Text(_stated(comparison), "dim"))
    for columns, rows in _tables(comparison, healths):
        drawing = Table(*columns, box=box.SIMPLE_HEAD)
        for row in rows:
            drawing.add_row(*(Text(cell, _style(cell)) for cell in row))
        console.print(drawing)
    console.print(Text(highest(comparison), "bold"))
    for word, sentence in _concluded(comparison):
        console.print(Text(sentence, _style(word)))
    for title, sentences in _remarks(comparison, healths).items():
        console.print(Text(f"\n{title}:", "bold"))
        for sentence in sentences:
            console.print(Text(f"- {sentence}"))
    console.print(Text(f"\n{_footnote(healths)}", "dim"))


def markdown(comparison: Comparison, healths: Healths) -> str:
    """Return statement, tables, verdicts and what to bear in mind, as Markdown.

    Args:
        comparison: what it is about.
        healths: of the variants, as `fmnist.diagnosis` takes them.
    """
    tables = [table(*content) for content in _tables(comparison, healths)]
    parts = [f"{comparison.design.question}\n({_stated(comparison)})", *tables]
    parts.append("\n".join([highest(comparison), *conclusions(comparison)]))
    for title, sentences in _remarks(comparison, healths).items():
        parts.append(f"{title}:\n" + "\n".join(f"- {sentence}" for sentence in sentences))
    return "\n\n".join([*parts, _footnote(healths)])


def html(comparison: Comparison, healths: Healths, pictures: Mapping[str, Figure]) -> str:
    """Return one page that needs no other file: statement, verdicts, tables and the pictures.

    Args:
        comparison: what it is about.
        healths: of the variants, as `fmnist.diagnosis` takes them.
        pictures: by title.
    """
    variants = comparison.variants
    runs = [
        (f"{variant.name} seed {seed}", f"run {run}")
        for variant in variants
        for seed, run in variant.run_ids.items()
    ]
    study = [("study", comparison.design.study)] if comparison.design.study else []
    return page(
        "report.html",
        pictures,
        comparison=comparison,
        stated=_stated(comparison),
        highest=highest(comparison),
        conclusions=_concluded(comparison),
        tables=_tables(comparison, healths),
        remarks=_remarks(comparison, healths),
        footnote=_footnote(healths),
        origin=[*study, *comparison.provenance.items(), *runs],
    )


def page(template: str, pictures: Mapping[str, Figure], **values: object) -> str:
    """Return an HTML page that needs no other file, made by one of the templates beside this."""
    environment = Environment(
        loader=PackageLoader("fmnist.reports"), autoescape=True, trim_blocks=True
    )
    images = {title: _png(figure) for title, figure in pictures.items()}
    return environment.get_template(template).render(pictures=images, **values)


def _png(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, bbox_inches="tight")
    return base64.b64encode(content.getvalue()).decode()


def as_json(comparison: Comparison, healths: Healths) -> str:
    """Return all numbers of the comparison as JSON; what could not be computed is null."""
    content = dataclasses.asdict(comparison) | {
        "highest": highest(comparison),
        "conclusions": conclusions(comparison),
        "layer_health": [
            dict(zip(layer_health.COLUMNS, row, strict=True)) for row in layer_health.rows(healths)
        ],
    }
    return json.dumps(finite(content), indent=1)


def _concluded(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the verdict on each variant but the baseline, and the sentence."""
    verdicts = [verdict(comparison, variant) for variant in comparison.variants[1:]]
    return list(zip(verdicts, conclusions(comparison), strict=True))


def _remarks(comparison: Comparison, healths: Healths) -> dict[str, Sequence[str]]:
    remarks = {
        "Layer health": layer_health.sentences(healths),
        "Bear in mind": comparison.caveats,
    }
    return {title: sentences for title, sentences in remarks.items() if sentences}


def _footnote(healths: Healths) -> str:
    return f"{FOOTNOTE} {layer_health.NOTE}" if healths else FOOTNOTE


def _style(cell: str) -> str:
    """Return the colour of a verdict; none for any other text."""
    return next((style for verdict, style in STYLES.items() if cell.startswith(verdict)), "")


def _stated(comparison: Comparison) -> str:
    statement, baseline = comparison.design, comparison.variants[0].name
    planned = f"planned variants: {statement.variants}" if statement.variants else "variants"
    if statement.seeds:
        planned += f", seeds {', '.join(map(str, statement.seeds))}"
    return (
        f"{statement.metric} decides; {planned}; by {', '.join(statement.by)}; baseline "
        f"{baseline}; a difference matters from {margin(statement)}"
    )


def _tables(comparison: Comparison, healths: Healths) -> list[tuple[list[str], list[list[str]]]]:
    """Return columns and rows of the means, and, if there are any, of differences and health."""
    tables = [_means(comparison)]
    if len(comparison.variants) > 1:
        tables.append(_differences(comparison))
    if healths:
        tables.append((list(layer_health.COLUMNS), layer_health.rows(healths)))
    return tables


def _means(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    metric = comparison.design.metric
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
        percent(variant.estimate),
        " ".join(f"{100 * variant.values[seed]:.2f}" for seed in sorted(variant.values)),
        percent(variant.test),
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


def percent(estimate: Estimate) -> str:
    """Write a mean of fractions in percent, with half the width of its interval."""
    if math.isnan(estimate.mean):
        return "-"
    mean = f"{100 * estimate.mean:.2f}"
    if math.isnan(estimate.low):
        return mean
    return f"{mean} ± {50 * (estimate.high - estimate.low):.2f}"


def _number(value: float, how: str) -> str:
    return "-" if math.isnan(value) else format(value, how)


def finite(node: object) -> object:
    """Return nested values as JSON can hold them: null for what is not finite."""
    if isinstance(node, dict):
        return {str(key): finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
