"""A decision to read: on the terminal, as JSON and as one HTML page."""

import dataclasses
from collections.abc import Mapping

from matplotlib.figure import Figure

from fmnist.common.terminal import table
from fmnist.evidence.comparison import Comparison
from fmnist.registry.decision import Candidate, Decision, Outcome
from fmnist.reports import comparison_plots
from fmnist.reports.formatting import percent, points, significance
from fmnist.reports.rendering import html_page, to_json

Table = tuple[list[str], list[list[str]]]

COLOURS = {Outcome.promoted: "better", Outcome.refused: "worse"}

FOOTNOTE = (
    "The mean of the paired differences must be at least as large as asked, and the p-value of "
    "Student's paired t-test, corrected after Holm for all variants compared, at most as large. "
    "Validation decides; the test accuracy was looked up when all was decided."
)


def text(decision: Decision) -> str:
    """Return what a decision rests on, as Markdown."""
    tables = [_sides(decision), _evidence(decision), _checks(decision)]
    parts = [table(*content) for content in tables if content and content[1]]
    if decision.question:
        parts.insert(0, decision.question)
    if decision.caveats:
        parts.append("Caveats:\n" + "\n".join(f"- {said}" for said in decision.caveats))
    return "\n\n".join(parts)


def as_json(decision: Decision) -> str:
    """Return all of the decision as JSON; what could not be computed is null."""
    content = dataclasses.asdict(decision)
    del content["record"]  # it is part of that
    return to_json(content)


def html(decision: Decision, comparison: Comparison | None) -> str:
    """Return the decision as one page that needs no other file.

    Args:
        decision: what it is about.
        comparison: that it rests on; None: it rests on none.
    """
    pictures: Mapping[str, Figure] = {}
    if comparison and decision.difference:
        pictures = {
            f"Differences from {comparison.variants[0].name}": comparison_plots.forest(comparison),
            "Every seed": comparison_plots.seeds(comparison),
        }
    sides = [side for side in (decision.challenger, decision.incumbent) if side]
    origin = {
        "decided by": decision.who,
        "at": decision.when,
        "champion before": decision.replaced or "none",
        "champion after": decision.champion or "none",
        "study": decision.study or "none",
        **decision.provenance,
        **{f"{side.role}, seed {side.seed}": f"run {side.run_id}" for side in sides},
    }
    return html_page(
        "decision.html",
        pictures,
        decision=decision,
        colour=COLOURS.get(decision.outcome, ""),
        sides=_sides(decision),
        evidence=_evidence(decision),
        checks=_checks(decision),
        footnote=FOOTNOTE if decision.incumbent else "",
        origin=list(origin.items()),
        open=True,
    )


def _sides(decision: Decision) -> Table:
    metric = decision.metric or "val_accuracy"
    columns = ["", "variant", "version", "seed", "seeds", f"{metric} %", "by seed"]
    sides = [side for side in (decision.incumbent, decision.challenger) if side]
    rows = [_side(side) for side in sides]
    if decision.test_accuracy:
        columns.append("test_accuracy % of the model")
        for row, side in zip(rows, sides, strict=True):
            value = decision.test_accuracy.get(side.role)
            row.append("-" if value is None else f"{100 * value:.2f}")
    return columns, rows


def _side(side: Candidate) -> list[str]:
    return [
        side.role,
        side.variant,
        str(side.version or "-"),
        str(side.seed),
        str(side.estimate.n),
        percent(side.estimate),
        " ".join(f"{100 * side.values[seed]:.2f}" for seed in sorted(side.values)),
    ]


def _evidence(decision: Decision) -> Table | None:
    """Return what was found and what was asked for."""
    difference, criteria = decision.difference, decision.criteria
    if difference is None or criteria is None or difference.estimate.n < 2:
        return None
    large = difference.estimate.mean >= criteria.min_effect
    columns = ["evidence", "found", "asked for", "met"]
    rows = [
        [
            "difference",
            points(difference.estimate),
            f"at least {100 * criteria.min_effect:g} points",
        ],
        ["corrected p", significance(difference.p), f"at most {criteria.alpha:g}"],
    ]
    for row, met in zip(rows, (large, difference.p <= criteria.alpha), strict=True):
        row.append(_mark(met))
    return columns, rows


def _checks(decision: Decision) -> Table:
    rows = [[check.name, check.found, _mark(check.passed)] for check in decision.checks]
    return ["gate", "found", "passed"], rows


def _mark(met: bool) -> str:
    return "yes" if met else "NO"
