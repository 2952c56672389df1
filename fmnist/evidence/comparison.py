"""Compare variants over seeds: the question, the numbers of each variant, the differences."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmnist.common.errors import ComparisonError
from fmnist.evidence.pooling import RunSummary, check_poolable, group_by_variant, variant_name
from fmnist.evidence.statistics import Estimate, PairedDifference, compare_paired, mean_interval

METRICS = {"best_val_accuracy": "best_test_accuracy", "last_val_accuracy": "last_test_accuracy"}
"""The metrics that can decide, each with the test metric that is shown beside it."""

Groups = Mapping[str, Sequence[RunSummary]]  # the runs of each variant


@dataclass(frozen=True)
class StudyDesign:
    """What a study asks, stated before its runs start."""

    question: str = "Which variant has the best validation accuracy?"
    metric: str = "best_val_accuracy"  # one of METRICS
    by: tuple[str, ...] = ("model",)  # the params whose values make the variants
    baseline: str | None = None  # a variant; None: the first to run
    min_effect: float = 0.005  # the smallest difference that matters, a fraction
    variants: int | None = None  # how many are planned
    seeds: tuple[int, ...] = ()  # those planned
    afterwards: tuple[str, ...] = ()  # which of these were chosen after the runs
    study: str | None = None  # run id of the study's parent run
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)  # short ones by full ones

    def variant_of(self, params: Mapping[str, str]) -> str:
        """Return the name of the variant that has these params."""
        full = variant_name(params, self.by)
        return self.names.get(full, full)

    def with_overrides(self, **changes: Any) -> "StudyDesign":
        """Return the design with other values, marked as chosen afterwards; None keeps a value."""
        new = {k: v for k, v in changes.items() if v not in (None, getattr(self, k))}
        return dataclasses.replace(self, **new, afterwards=tuple(new))


@dataclass(frozen=True)
class Variant:
    """The finished runs of one variant, by seed; accuracies are fractions."""

    name: str
    run_ids: Mapping[int, str]
    artifacts: Mapping[int, str]  # URIs
    values: Mapping[int, float]  # of the metric that decides
    estimate: Estimate  # of the mean of `values`
    test: Estimate
    best_epoch: float  # a median, as the next two; NaN if a run lacks it
    parameters: float
    epoch_seconds: float
    unfinished: Mapping[str, int]  # the other runs, by status
    difference: PairedDifference | None = None  # None for the baseline


@dataclass(frozen=True)
class Comparison:
    """The answer to a study's question."""

    design: StudyDesign
    variants: Sequence[Variant]  # the baseline first, then in the order they were run
    caveats: Sequence[str]
    provenance: Mapping[str, str]  # what all finished runs have in common: data, code, engine


def compare_variants(
    runs: Sequence[RunSummary], design: StudyDesign, allow: Iterable[str] = ()
) -> Comparison:
    """Compare runs, in the order they started, that may differ in the settings `allow`.

    Raises:
        ComparisonError: if there is nothing to compare, or if runs differ in anything but the
            variant and the seed.
    """
    _check_design(design, runs)
    groups = group_by_variant(runs, design.variant_of)
    finished = {name: [run for run in group if run.finished] for name, group in groups.items()}
    baseline = _baseline(finished, design)
    allowed = check_poolable(finished, design.by, allow)
    names = [baseline, *(name for name in groups if name != baseline)]
    variants = [_variant(name, groups[name], design.metric) for name in names]
    variants = _with_differences(variants, design.min_effect)
    caveats = [f"{key} differs: {', '.join(values)}" for key, values in allowed.items()]
    if design.baseline is None and baseline != (first := next(iter(groups))):
        caveats.append(f"{first} has no finished run, so {baseline} is the baseline")
    caveats += _deviations(finished, design)
    provenances = [
        {*run.provenance.items(), *run.information.items()}
        for group in finished.values()
        for run in group
    ]
    common = dict(sorted(set.intersection(*provenances)))
    return Comparison(design, variants, caveats, common)


def _check_design(design: StudyDesign, runs: Sequence[RunSummary]) -> None:
    if design.metric not in METRICS:
        raise ComparisonError(f"metric {design.metric}: choose one of {', '.join(METRICS)}")
    if not 0 < design.min_effect < 1:
        raise ComparisonError(f"min_effect {design.min_effect}: must be above 0 and below 1")
    if not runs:
        search = "; the result of a search is under search/ in its run" if design.names else ""
        raise ComparisonError(f"no run matches: there is nothing to compare{search}")
    for key in design.by:
        if not any(key in run.params for run in runs):
            raise ComparisonError(f"by {key}: no run has this param; use the name that you type")


def _baseline(finished: Groups, design: StudyDesign) -> str:
    """Return the design's, by default the first variant with a finished run."""
    if not any(finished.values()):
        raise ComparisonError(
            "no run is finished: there is nothing to compare; "
            "`python -m fmnist studies` lists other studies"
        )
    if design.baseline is None:
        return next(name for name, group in finished.items() if group)
    if design.baseline not in finished:
        raise ComparisonError(f"baseline {design.baseline}: choose one of {', '.join(finished)}")
    return design.baseline


def _variant(name: str, runs: Sequence[RunSummary], metric: str) -> Variant:
    finished = {run.seed: run for run in runs if run.finished}
    values = _metric(finished, metric)
    if finished and not values:
        others = [key for key in METRICS if _metric(finished, key)]
        raise ComparisonError(
            f"not every run of {name} has {metric}; choose --metric {' or '.join(others)}"
        )
    return Variant(
        name=name,
        run_ids={seed: run.run_id for seed, run in finished.items()},
        artifacts={seed: run.artifacts for seed, run in finished.items()},
        values=values,
        estimate=mean_interval([*values.values()]),
        test=mean_interval([*_metric(finished, METRICS[metric]).values()]),
        best_epoch=_median(finished, "best_epoch"),
        parameters=_median(finished, "parameters"),
        epoch_seconds=_median(finished, "epoch_seconds"),
        unfinished=dict(Counter(run.status for run in runs if not run.finished)),
    )


def _metric(runs: Mapping[int, RunSummary], key: str) -> dict[int, float]:
    """Return a metric by seed; nothing unless every run has it."""
    values = {seed: run.metrics[key] for seed, run in runs.items() if key in run.metrics}
    return values if len(values) == len(runs) else {}


def _median(runs: Mapping[int, RunSummary], key: str) -> float:
    return float(np.median([*_metric(runs, key).values()] or np.nan))


def _with_differences(variants: Sequence[Variant], margin: float) -> list[Variant]:
    """Add the difference from the first, paired by seed, to all others."""
    baseline, *others = variants
    pairs = [
        [v.values[seed] - baseline.values[seed] for seed in v.values if seed in baseline.values]
        for v in others
    ]
    differences = zip(others, compare_paired(pairs, margin), strict=True)
    return [baseline, *(dataclasses.replace(v, difference=d) for v, d in differences)]


def _deviations(finished: Groups, design: StudyDesign) -> list[str]:
    deviations = [f"{name} was chosen after the runs" for name in design.afterwards]
    if design.variants and len(finished) != design.variants:
        deviations.append(f"{len(finished)} of {design.variants} planned variants have run")
    for name, runs in finished.items():
        seeds = Counter(run.seed for run in runs)
        if missing := [str(seed) for seed in design.seeds if seed not in seeds]:
            deviations.append(f"{name}: no finished run of seed {', '.join(missing)}")
        if repeated := [str(seed) for seed, times in seeds.items() if times > 1]:
            deviations.append(
                f"{name}: seed {', '.join(repeated)} was run more than once; the latest run counts"
            )
    return deviations
