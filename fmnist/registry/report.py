"""A decision to read: on the terminal, as JSON and as one HTML page."""

import dataclasses
from collections.abc import Mapping

from matplotlib.figure import Figure

from fmnist.common.terminal import table
from fmnist.evidence.comparison import Comparison
from fmnist.registry.decision import Candidate, Decision, Outcome
from fmnist.reports import comparison_plots
from fmnist.reports.formatting import percent, percent_by_seed, points, significance
from fmnist.reports.rendering import html_page, to_json

Table = tuple[list[str], list[list[str]]]

COLOURS = {Outcome.promoted: "better", Outcome.refused: "worse"}

FOOTNOTE = (
    "The mean of the paired differences must be at least as large as asked, and the p-value of "
    "Student's paired t-test, corrected after Holm for all variants compared, at most as large. "
    "Validation decides; the test accuracy was looked up after the decision."
)


def text(decision: Decision) -> str:
    """Return what a decision rests on, as Markdown."""
    tables = [_candidates(decision), _evidence(decision), _checks(decision)]
    parts = [table(*content) for content in tables if content[1]]
    if decision.evidence.question:
        parts.insert(0, decision.evidence.question)
    if caveats := decision.evidence.caveats:
        parts.append("Caveats:\n" + "\n".join(f"- {caveat}" for caveat in caveats))
    return "\n\n".join(parts)


def as_json(decision: Decision) -> str:
    """Return all of the decision as JSON; what could not be computed is null."""
    content = dataclasses.asdict(decision)
    del content["record"]  # it is part of that
    return to_json(content | content.pop("evidence"))


def html(decision: Decision, comparison: Comparison | None) -> str:
    """Return the decision as one page that needs no other file.

    Args:
        decision: what it is about.
        comparison: what it rests on; None for a rollback.
    """
    evidence = decision.evidence
    pictures: Mapping[str, Figure] = {}
    if comparison and evidence.difference:
        pictures = {
            f"Differences from {comparison.variants[0].name}": comparison_plots.forest(comparison),
            "Every seed": comparison_plots.seeds(comparison),
        }
    origin = {
        "decided by": decision.who,
        "at": decision.when,
        "champion before": decision.replaced or "none",
        "champion after": decision.champion or "none",
        "study": evidence.study or "none",
        **evidence.provenance,
        **{
            f"{candidate.role}, seed {candidate.seed}": f"run {candidate.run_id}"
            for candidate in decision.candidates
        },
    }
    return html_page(
        "decision.html",
        pictures,
        decision=decision,
        colour=COLOURS.get(decision.outcome, ""),
        candidates=_candidates(decision),
        evidence=_evidence(decision),
        checks=_checks(decision),
        footnote=FOOTNOTE if evidence.incumbent else "",
        origin=list(origin.items()),
        open=True,
    )


def _candidates(decision: Decision) -> Table:
    metric = decision.evidence.metric or "val_accuracy"
    columns = ["", "variant", "version", "seed", "seeds", f"{metric} %", "by seed"]
    rows = [_row(candidate) for candidate in decision.candidates]
    if decision.test_accuracy:
        columns.append("test_accuracy % of the model")
        for row, candidate in zip(rows, decision.candidates, strict=True):
            value = decision.test_accuracy.get(candidate.role)
            row.append("-" if value is None else f"{100 * value:.2f}")
    return columns, rows


def _row(candidate: Candidate) -> list[str]:
    return [
        candidate.role,
        candidate.variant,
        str(candidate.version or "-"),
        str(candidate.seed),
        str(candidate.estimate.n),
        percent(candidate.estimate),
        percent_by_seed(candidate.values),
    ]


def _evidence(decision: Decision) -> Table:
    """Return what was found and what was asked for, if two seeds or more were compared."""
    columns = ["evidence", "found", "asked for", "met"]
    difference, criteria = decision.evidence.difference, decision.evidence.criteria
    if difference is None or criteria is None or difference.estimate.n < 2:
        return columns, []
    estimate, least = difference.estimate, f"at least {100 * criteria.min_effect:g} points"
    p, most = significance(difference.p), f"at most {criteria.alpha:g}"
    large, significant = estimate.mean >= criteria.min_effect, difference.p <= criteria.alpha
    return columns, [
        ["difference", points(estimate), least, _mark(large)],
        ["corrected p", p, most, _mark(significant)],
    ]


def _checks(decision: Decision) -> Table:
    rows = [[check.name, check.found, _mark(check.passed)] for check in decision.checks]
    return ["check", "found", "passed"], rows


def _mark(met: bool) -> str:
    return "yes" if met else "NO"
