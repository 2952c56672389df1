"""Compare variants over seeds: the question, the numbers of each variant, the differences."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmnist.common.errors import ComparisonError
from fmnist.evidence.pooling import RunSummary, check_poolable, grouped, variant_name
from fmnist.evidence.statistics import Difference, Estimate, compare, mean_interval

METRICS = {"best_val_accuracy": "best_test_accuracy", "last_val_accuracy": "last_test_accuracy"}
"""What may decide, and the test metric that is shown beside it and decides nothing."""


@dataclass(frozen=True)
class StudyDesign:
    """What a study asks, stated before its runs begin.

    Attributes:
        question: in words.
        metric: what decides, one of `METRICS`.
        by: the params whose values make the variants.
        baseline: the variant that the others are compared with; None: the first to run.
        min_effect: the smallest difference that matters, a fraction (0.005: half a point).
        variants: how many are planned; None: nothing was planned.
        seeds: those planned.
        afterwards: which of these were asked when the runs were there already.
        study: run id of the study's parent run; None: it is no study that is asked.
        names: short names of variants, by their full ones.
    """

    question: str = "Which variant has the best validation accuracy?"
    metric: str = "best_val_accuracy"
    by: tuple[str, ...] = ("model",)
    baseline: str | None = None
    min_effect: float = 0.005
    variants: int | None = None
    seeds: tuple[int, ...] = ()
    afterwards: tuple[str, ...] = ()
    study: str | None = None
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def variant_of(self, params: Mapping[str, str]) -> str:
        """Return the name of the variant of a run with these params."""
        full = variant_name(params, self.by)
        return self.names.get(full, full)

    def with_overrides(self, **changes: Any) -> "StudyDesign":
        """Return the statement with another metric, baseline and so on; None changes nothing."""
        new = {k: v for k, v in changes.items() if v not in (None, getattr(self, k))}
        return dataclasses.replace(self, **new, afterwards=tuple(new))


@dataclass(frozen=True)
class Variant:
    """All runs of one variant; accuracies are fractions, what is a mapping is by seed.

    `artifacts` is where those of each run lie.
    """

    name: str
    run_ids: Mapping[int, str]
    artifacts: Mapping[int, str]
    values: Mapping[int, float]
    estimate: Estimate
    test: Estimate
    best_epoch: float
    parameters: float
    epoch_seconds: float
    unfinished: Mapping[str, int]
    difference: Difference | None = None


@dataclass(frozen=True)
class Comparison:
    """The answer to a statement.

    Attributes:
        design: what was asked.
        variants: the baseline first, then the others in the order they were run.
        departures: what to bear in mind.
        facts: what all finished runs have in common: data, code, engine.
    """

    design: StudyDesign
    variants: Sequence[Variant]
    caveats: Sequence[str]
    provenance: Mapping[str, str]


def comparison(
    runs: Sequence[RunSummary], design: StudyDesign, allow: Iterable[str] = ()
) -> Comparison:
    """Compare the runs as `statement` asks.

    Args:
        runs: in the order they started.
        design: the question.
        allow: params and facts in which the runs may differ all the same.

    Raises:
        ComparisonError: if there is nothing to compare, or if runs differ in anything but the
            variant and the seed.
    """
    _check_question(design, runs)
    groups = grouped(runs, design.variant_of)
    finished = {n: [r for r in group if r.status == "FINISHED"] for n, group in groups.items()}
    if not any(finished.values()):
        raise ComparisonError(
            f"none of the {len(runs)} runs that were begun is finished: there is nothing to "
            "compare; `python -m fmnist studies` lists others"
        )
    differing = check_poolable(finished, design.by, allow)
    name = design.baseline or next(n for n, group in finished.items() if group)
    if name not in groups:
        raise ComparisonError(f"baseline {name}: choose one of {', '.join(groups)}")
    order = [name, *(n for n in groups if n != name)]
    variants = [_variant(n, groups[n], design.metric) for n in order]
    caveats = [f"{key} differs: {', '.join(values)}" for key, values in differing.items()]
    if design.baseline is None and name != (first := next(iter(groups))):
        caveats.append(f"{first} has no finished run, so {name} is the baseline")
    caveats += _departures(groups, design)
    own = [set(run.provenance.items()) for group in finished.values() for run in group]
    provenance = dict(sorted(set.intersection(*own)))
    return Comparison(design, _with_differences(variants, design), caveats, provenance)


def _check_question(design: StudyDesign, runs: Sequence[RunSummary]) -> None:
    """Refuse a question that no runs, or not these, can answer."""
    if design.metric not in METRICS:
        raise ComparisonError(f"metric {design.metric}: choose one of {', '.join(METRICS)}")
    if not 0 < design.min_effect < 1:
        raise ComparisonError(f"min_effect {design.min_effect}: must be above 0 and below 1")
    if not runs:
        search = "; what a search found is told below search/ in its run" if design.names else ""
        raise ComparisonError(f"no run matches: there is nothing to compare{search}")
    for key in design.by:
        if not any(key in run.params for run in runs):
            raise ComparisonError(f"by {key}: no run has such a param; it is named as it is typed")


def _variant(name: str, runs: Sequence[RunSummary], metric: str) -> Variant:
    finished = {run.seed: run for run in runs if run.status == "FINISHED"}

    def all_of(key: str) -> list[float]:
        try:
            return [run.metrics[key] for run in finished.values()]
        except KeyError:
            return []

    values = all_of(metric)
    if finished and not values:
        there = [key for key in METRICS if all_of(key)]
        raise ComparisonError(
            f"not every run of {name} has {metric}; there is --metric {' or '.join(there)}"
        )
    best_epoch, parameters, epoch_seconds = (
        float(np.median(all_of(key) or np.nan))
        for key in ("best_epoch", "parameters", "epoch_seconds")
    )
    return Variant(
        name,
        {seed: run.run_id for seed, run in finished.items()},
        {seed: run.artifacts for seed, run in finished.items()},
        dict(zip(finished, values, strict=True)),
        mean_interval(values),
        mean_interval(all_of(METRICS[metric])),
        best_epoch,
        parameters,
        epoch_seconds,
        dict(Counter(run.status for run in runs if run.status != "FINISHED")),
    )


def _with_differences(variants: Sequence[Variant], design: StudyDesign) -> list[Variant]:
    """Add to all but the first variant how it differs from the first, seed by seed."""
    baseline, *others = variants
    pairs = [
        [v.values[seed] - baseline.values[seed] for seed in v.values if seed in baseline.values]
        for v in others
    ]
    found = compare(pairs, design.min_effect)
    return [
        baseline,
        *(dataclasses.replace(v, difference=d) for v, d in zip(others, found, strict=True)),
    ]


def _departures(groups: Mapping[str, Sequence[RunSummary]], design: StudyDesign) -> list[str]:
    """Say where the runs are not those that were planned, or count twice or not at all."""
    said = [f"{name} was chosen after the runs" for name in design.afterwards]
    if design.variants and len(groups) != design.variants:
        said.append(f"{len(groups)} of {design.variants} planned variants have run")
    for name, runs in groups.items():
        seeds = Counter(run.seed for run in runs if run.status == "FINISHED")
        if missing := [seed for seed in design.seeds if seed not in seeds]:
            said.append(f"{name}: no finished run of seed {', '.join(map(str, missing))}")
        if again := [seed for seed, times in seeds.items() if times > 1]:
            said.append(
                f"{name}: seed {', '.join(map(str, again))} was run more than once; "
                "the latest run counts"
            )
    return said
