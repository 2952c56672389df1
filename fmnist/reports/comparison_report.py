"""A comparison to read: as Markdown, as JSON and as one HTML page."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from fmnist.common.terminal import table
from fmnist.evidence import layer_health
from fmnist.evidence.comparison import METRICS, Comparison, Variant
from fmnist.evidence.statistics import Verdict
from fmnist.reports.formatting import percent, percent_by_seed, points, significance
from fmnist.reports.rendering import html_page, print_markdown, to_json
from fmnist.reports.verdicts import conclusions, highest, margin, verdict

Healths = Mapping[str, layer_health.Health]
Table = tuple[Sequence[str], list[list[str]]]  # columns and rows

DECIDED = (Verdict.better, Verdict.worse, Verdict.equivalent)

FOOTNOTE = (
    "± and [] are 95 % intervals of the mean (Student's t); best epoch is a median. p is of the "
    "paired t-test over the seeds, corrected for the number of variants (Holm); the intervals are "
    "not, so one may exclude 0 where p gives no evidence. Validation decides, test never does."
)


def show(comparison: Comparison, healths: Healths) -> None:
    """Print the comparison: rendered on a terminal, as Markdown anywhere else."""
    print_markdown(markdown(comparison, healths))


def markdown(comparison: Comparison, healths: Healths) -> str:
    """Return question, tables, verdicts (bold where decided) and caveats."""
    question = re.sub(r"([\\`*<|])", r"\\\1", comparison.design.question)
    verdicts = [
        f"**{sentence}**" if kind.startswith(DECIDED) else sentence
        for kind, sentence in _verdicts(comparison)
    ]
    parts = [f"## {question}", f"({_design(comparison)})"]
    parts += [table(*content) for content in _tables(comparison, healths)]
    parts += [highest(comparison), _bullets(verdicts)]
    for title, sentences in _remarks(comparison, healths).items():
        parts += [f"### {title}", _bullets(sentences)]
    return "\n\n".join([*filter(None, parts), _footnote(healths)])


def html(comparison: Comparison, healths: Healths, pictures: Mapping[str, Figure]) -> str:
    """Return one page that needs no other file: question, verdicts, tables, pictures by title."""
    runs = [
        (f"{variant.name} seed {seed}", f"run {run_id}")
        for variant in comparison.variants
        for seed, run_id in variant.run_ids.items()
    ]
    study = [("study", comparison.design.study)] if comparison.design.study else []
    return html_page(
        "report.html",
        pictures,
        question=comparison.design.question,
        design=_design(comparison),
        highest=highest(comparison),
        verdicts=_verdicts(comparison),
        tables=_tables(comparison, healths),
        remarks=_remarks(comparison, healths),
        footnote=_footnote(healths),
        origin=[*study, *comparison.provenance.items(), *runs],
    )


def as_json(comparison: Comparison, healths: Healths) -> str:
    """Return all numbers of the comparison as JSON; null stands for what has no value."""
    columns, rows = _health_table(healths)
    content = dataclasses.asdict(comparison) | {
        "highest": highest(comparison),
        "conclusions": conclusions(comparison),
        "layer_health": [dict(zip(columns, row, strict=True)) for row in rows],
    }
    return to_json(content)


def _verdicts(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the verdict on each variant but the baseline, and the sentence."""
    kinds = [verdict(comparison, variant) for variant in comparison.variants[1:]]
    return list(zip(kinds, conclusions(comparison), strict=True))


def _remarks(comparison: Comparison, healths: Healths) -> dict[str, Sequence[str]]:
    remarks = {"Layer health": layer_health.sentences(healths), "Caveats": comparison.caveats}
    return {title: sentences for title, sentences in remarks.items() if sentences}


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _footnote(healths: Healths) -> str:
    return f"{FOOTNOTE} {layer_health.NOTE}" if healths else FOOTNOTE


def _design(comparison: Comparison) -> str:
    design = comparison.design
    planned = f"planned variants: {design.variants}" if design.variants else "variants"
    if design.seeds:
        planned += f", seeds {', '.join(map(str, design.seeds))}"
    return (
        f"{design.metric} decides; {planned}; by {', '.join(design.by)}; baseline "
        f"{comparison.variants[0].name}; a difference matters from {margin(design)}"
    )


def _tables(comparison: Comparison, healths: Healths) -> list[Table]:
    """Return the means, and, if there are any, the differences and the layer health."""
    tables = [_means(comparison), _differences(comparison), _health_table(healths)]
    return [content for content in tables if content[1]]


def _means(comparison: Comparison) -> Table:
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
        percent_by_seed(variant.values),
        percent(variant.test),
        _number(variant.best_epoch, ".1f"),
        _number(variant.parameters, ",.0f"),
        _number(variant.epoch_seconds, ".2f"),
    ]


def _differences(comparison: Comparison) -> Table:
    baseline, *others = comparison.variants
    columns = [f"against {baseline.name}", "pairs", "difference", "p", "verdict"]
    return columns, [_difference_row(comparison, variant) for variant in others]


def _difference_row(comparison: Comparison, variant: Variant) -> list[str]:
    difference = variant.difference
    assert difference is not None
    size = points(difference.estimate) if difference.estimate.n > 1 else "-"
    p = "-" if math.isnan(difference.p) else significance(difference.p)
    pairs = str(difference.estimate.n)
    return [variant.name, pairs, size, p, verdict(comparison, variant)]


def _health_table(healths: Healths) -> Table:
    return layer_health.COLUMNS, layer_health.rows(healths)


def _number(value: float, spec: str) -> str:
    return "-" if math.isnan(value) else format(value, spec)
