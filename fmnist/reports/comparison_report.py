"""A comparison to read: as Markdown, as JSON and as one HTML page."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from fmnist.common.terminal import escaped
from fmnist.evidence import layer_health
from fmnist.evidence.comparison import METRICS, Comparison
from fmnist.evidence.statistics import Verdict
from fmnist.reports import formatting
from fmnist.reports.formatting import Record, Table, tabulate
from fmnist.reports.rendering import html_page, print_markdown, to_json
from fmnist.reports.verdicts import conclusions, highest, margin, verdict

Healths = Mapping[str, layer_health.Health]

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
    verdicts = [
        f"**{escaped(sentence)}**" if kind.startswith(DECIDED) else escaped(sentence)
        for kind, sentence in _verdicts(comparison)
    ]
    parts = [f"## {escaped(comparison.design.question)}", f"({escaped(_design(comparison))})"]
    parts += [formatting.markdown_table(content) for content in _tables(comparison, healths)]
    parts += [escaped(highest(comparison)), _bullets(verdicts)]
    for title, sentences in _remarks(comparison, healths).items():
        parts += [f"### {title}", _bullets(map(escaped, sentences))]
    return "\n\n".join([*filter(None, parts), _footnote(healths)])


def html(comparison: Comparison, healths: Healths, pictures: Mapping[str, bytes]) -> str:
    """Return one page that needs no other file: question, verdicts, tables, PNGs by title."""
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
    rows = layer_health.rows(healths)
    content = dataclasses.asdict(comparison) | {
        "highest": highest(comparison),
        "conclusions": conclusions(comparison),
        "layer_health": [dict(zip(layer_health.COLUMNS, row, strict=True)) for row in rows],
    }
    return to_json(content)


def _verdicts(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the verdict on each variant but the baseline, and the sentence."""
    kinds = [verdict(comparison, variant) for variant in comparison.variants[1:]]
    return list(zip(kinds, conclusions(comparison), strict=True))


def _remarks(comparison: Comparison, healths: Healths) -> dict[str, Sequence[str]]:
    remarks = {"Layer health": layer_health.sentences(healths), "Caveats": comparison.caveats}
    return {title: sentences for title, sentences in remarks.items() if sentences}


def _bullets(sentences: Iterable[str]) -> str:
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
    tables = [
        tabulate(_means(comparison)),
        tabulate(_differences(comparison)),
        (layer_health.COLUMNS, layer_health.rows(healths)),
    ]
    return [(columns, rows) for columns, rows in tables if rows]


def _means(comparison: Comparison) -> list[Record]:
    metric = comparison.design.metric
    return [
        {
            "variant": variant.name,
            "seeds": str(variant.estimate.n),
            f"{metric} %": formatting.percent(variant.estimate),
            "by seed": formatting.percent_by_seed(variant.values),
            f"{METRICS[metric]} %": formatting.percent(variant.test),
            "best epoch": _number(variant.best_epoch, ".1f"),
            "parameters": _number(variant.parameters, ",.0f"),
            "s an epoch": _number(variant.epoch_seconds, ".2f"),
            "not finished": ", ".join(f"{n} {kind}" for kind, n in variant.unfinished.items()),
        }
        for variant in comparison.variants
    ]


def _differences(comparison: Comparison) -> list[Record]:
    baseline, *others = comparison.variants
    pairs = [(variant, variant.difference) for variant in others if variant.difference]
    return [
        {
            f"against {baseline.name}": variant.name,
            "pairs": str(difference.estimate.n),
            "difference": formatting.points(difference.estimate),
            "p": formatting.significance(difference.p),
            "verdict": verdict(comparison, variant),
        }
        for variant, difference in pairs
    ]


def _number(value: float, spec: str) -> str:
    return "-" if math.isnan(value) else format(value, spec)
