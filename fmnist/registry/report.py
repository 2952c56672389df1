"""A decision to read: on the terminal, as JSON and as one HTML page."""

import dataclasses
from collections.abc import Mapping
from functools import partial

from fmnist.common.terminal import escaped
from fmnist.evidence.comparison import Comparison
from fmnist.registry.decision import Candidate, Decision
from fmnist.reports import comparison_plots, formatting
from fmnist.reports.formatting import Record, tabulate
from fmnist.reports.pictures import Drawing, rendered
from fmnist.reports.rendering import html_page, to_json

FOOTNOTE = (
    "The mean of the paired differences must be at least as large as asked, and the p-value of "
    "Student's paired t-test, corrected after Holm for all variants compared, at most as large. "
    "Validation decides; the test accuracy was looked up after the decision."
)


def text(decision: Decision) -> str:
    """Return what a decision rests on, as Markdown."""
    tables = [_candidates(decision), _evidence(decision), _checks(decision)]
    parts = [formatting.markdown_table(tabulate(records)) for records in tables if records]
    if decision.evidence.question:
        parts.insert(0, escaped(decision.evidence.question))
    if caveats := decision.evidence.caveats:
        parts.append("Caveats:\n" + "\n".join(f"- {escaped(caveat)}" for caveat in caveats))
    return "\n\n".join(parts)


def as_json(decision: Decision) -> str:
    content = dataclasses.asdict(decision)
    del content["record"]  # it is part of that
    return to_json(content | content.pop("evidence"))


def html(decision: Decision, comparison: Comparison | None) -> str:
    """Return a page that needs no other file; the comparison is None for a rollback."""
    evidence = decision.evidence
    drawings: Mapping[str, Drawing] = {}
    if comparison and evidence.difference:
        drawings = {
            f"Differences from {comparison.variants[0].name}": partial(
                comparison_plots.forest, comparison
            ),
            "Every seed": partial(comparison_plots.seeds, comparison),
        }
    origin = {
        "decided by": decision.who,
        "at": decision.when,
        "champion before": decision.replaced or "none",
        "champion after": decision.champion or "none",
        "study": evidence.study or "none",
        **evidence.provenance,
    }
    for candidate in decision.candidates:
        origin[f"{candidate.role}, seed {candidate.seed}"] = f"run {candidate.run_id}"
    return html_page(
        "decision.html",
        rendered(drawings, tight=True),
        decision=decision,
        candidates=tabulate(_candidates(decision)),
        evidence=tabulate(_evidence(decision)),
        checks=tabulate(_checks(decision)),
        footnote=FOOTNOTE if evidence.incumbent else "",
        origin=list(origin.items()),
        open=True,
    )


def _candidates(decision: Decision) -> list[Record]:
    metric = decision.evidence.metric or "val_accuracy"
    return [
        {
            "": candidate.role,
            "variant": candidate.variant,
            "version": str(candidate.version or "-"),
            "seed": str(candidate.seed),
            "seeds": str(candidate.estimate.n),
            f"{metric} %": formatting.percent(candidate.estimate),
            "by seed": formatting.percent_by_seed(candidate.values),
            "test_accuracy % of the model": _test_accuracy(decision, candidate),
        }
        for candidate in decision.candidates
    ]


def _test_accuracy(decision: Decision, candidate: Candidate) -> str:
    value = decision.test_accuracy.get(candidate.role)
    return "" if value is None else f"{100 * value:.2f}"


def _evidence(decision: Decision) -> list[Record]:
    """Return what was found and what was asked for, if two seeds or more were compared."""
    difference, criteria = decision.evidence.difference, decision.evidence.criteria
    if difference is None or criteria is None or difference.estimate.n < 2:
        return []
    return [
        {
            "evidence": "difference",
            "found": formatting.points(difference.estimate),
            "asked for": f"at least {100 * criteria.min_effect:g} points",
            "met": _mark(difference.estimate.mean >= criteria.min_effect),
        },
        {
            "evidence": "corrected p",
            "found": formatting.significance(difference.p),
            "asked for": f"at most {criteria.alpha:g}",
            "met": _mark(difference.p <= criteria.alpha),
        },
    ]


def _checks(decision: Decision) -> list[Record]:
    return [
        {"check": check.name, "found": check.found, "passed": _mark(check.passed)}
        for check in decision.checks
    ]


def _mark(met: bool) -> str:
    return "yes" if met else "NO"
