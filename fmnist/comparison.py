"""Compare variants over seeds: which runs may be pooled, and what they say together."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmnist.errors import ComparisonError
from fmnist.statistics import (
    Difference,
    Estimate,
    Verdict,
    compare,
    mean_interval,
    seeds_needed,
)

METRICS = {"best_val_accuracy": "best_test_accuracy", "last_val_accuracy": "last_test_accuracy"}
"""What may decide, and the test metric that is shown beside it and decides nothing."""

USUAL_SPREAD = 0.005
"""Standard deviation of paired differences in `experiment=tutorial`, where one seed shows none."""

MOST_SEEDS = 100  # a plan for more than these is no plan


@dataclass(frozen=True)
class Trained:
    """One run: how it ended (FINISHED, FAILED, diverged, ...), its params, facts and metrics.

    `facts` is what must be equal, too, for runs to be pooled: data, code, engine.
    """

    run_id: str
    status: str
    params: Mapping[str, str]
    facts: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def seed(self) -> int:
        """The seed, which pairs runs of different variants."""
        return int(self.params["seed"])


@dataclass(frozen=True)
class Statement:
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
    """

    question: str = "Which variant has the best validation accuracy?"
    metric: str = "best_val_accuracy"
    by: tuple[str, ...] = ("model",)
    baseline: str | None = None
    min_effect: float = 0.005
    variants: int | None = None
    seeds: tuple[int, ...] = ()
    afterwards: tuple[str, ...] = ()

    def asking(self, **changes: Any) -> "Statement":
        """Return the statement with another metric, baseline and so on; None changes nothing."""
        new = {k: v for k, v in changes.items() if v not in (None, getattr(self, k))}
        return dataclasses.replace(self, **new, afterwards=tuple(new))


@dataclass(frozen=True)
class Variant:
    """All runs of one variant; accuracies are fractions, `values` and `run_ids` by seed."""

    name: str
    run_ids: Mapping[int, str]
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
    """The answer to a statement: the baseline first, then the others; what to bear in mind."""

    statement: Statement
    variants: Sequence[Variant]
    departures: Sequence[str]

    def verdict(self, variant: Variant) -> str:
        """Return the verdict on a variant in words."""
        assert variant.difference is not None
        verdict = variant.difference.verdict
        within = f" within {self.margin}" if verdict is Verdict.equivalent else ""
        return f"{verdict}{within}"

    @property
    def margin(self) -> str:
        """The smallest difference that matters, in words."""
        return f"{100 * self.statement.min_effect:g} points"

    @property
    def conclusions(self) -> list[str]:
        """One sentence for each variant but the baseline."""
        return [self._sentence(variant) for variant in self.variants[1:]]

    def _sentence(self, variant: Variant) -> str:
        difference = variant.difference
        assert difference is not None
        n, baseline = difference.estimate.n, self.variants[0].name
        unknown = difference.verdict in (Verdict.untested, Verdict.unknown)
        needed = f" {self._plan(difference.spread)}" if unknown and variant.values else ""
        if difference.verdict is Verdict.untested:
            return (
                f"Nothing can be concluded about {variant.name}: seeds in common with {baseline}: "
                f"{n}.{needed}"
            )
        equivalent = difference.verdict is Verdict.equivalent
        p = difference.p_equivalent if equivalent else difference.p
        size = f"{points(difference.estimate)}, {n} seeds, {significance(p)}.{needed}"
        if difference.verdict is Verdict.unknown:
            return f"There is no evidence that {variant.name} differs from {baseline}: {size}"
        if equivalent:
            return f"{variant.name} is equivalent to {baseline} within {self.margin}: {size}"
        return f"{variant.name} is {difference.verdict} than {baseline}: {size}"

    def _plan(self, spread: float) -> str:
        """Say how many seeds tell the smallest difference that matters."""
        measured = spread > 0
        comparisons = len(self.variants) - 1
        n = seeds_needed(
            self.statement.min_effect, spread if measured else USUAL_SPREAD, comparisons
        )
        many = f"about {n}" if n <= MOST_SEEDS else f"far more than {MOST_SEEDS}"
        source = "as these seeds spread" if measured else "as seeds spread in experiment=tutorial"
        return f"To tell {self.margin} apart takes {many} seeds a variant, {source}."


def comparison(
    runs: Sequence[Trained], statement: Statement, allow: Iterable[str] = ()
) -> Comparison:
    """Compare the runs as `statement` asks.

    Args:
        runs: in the order they started.
        statement: the question.
        allow: params and facts in which the runs may differ all the same.

    Raises:
        ComparisonError: if there is nothing to compare, or if runs differ in anything but the
            variant and the seed.
    """
    if statement.metric not in METRICS:
        raise ComparisonError(f"metric {statement.metric}: choose one of {', '.join(METRICS)}")
    if not 0 < statement.min_effect < 1:
        raise ComparisonError(f"min_effect {statement.min_effect}: must be above 0 and below 1")
    groups: dict[str, list[Trained]] = {}
    for run in runs:
        groups.setdefault(variant_name(run, statement.by), []).append(run)
    finished = {n: [r for r in group if r.status == "FINISHED"] for n, group in groups.items()}
    if not any(finished.values()):
        raise ComparisonError(f"none of {len(runs)} runs is finished: there is nothing to compare")
    differing = differences(list(finished.values()), statement.by)
    allowed = {key for a in allow for key in differing if key == a or key.startswith(f"{a}.")}
    if refused := {key: values for key, values in differing.items() if key not in allowed}:
        raise ComparisonError(
            f"the runs differ in more than {', '.join(statement.by)} and seed: "
            + "; ".join(f"{key} is {' or '.join(values)}" for key, values in refused.items())
            + f". Pick some with --filter, or pool them with --allow {','.join(refused)}"
        )
    for variant, group in finished.items():
        _refuse_mixed_seeds(variant, group)
    name = statement.baseline or next(n for n, group in finished.items() if group)
    if name not in groups:
        raise ComparisonError(f"baseline {name}: choose one of {', '.join(groups)}")
    order = [name, *(n for n in groups if n != name)]
    variants = [_variant(n, groups[n], statement.metric) for n in order]
    departures = [f"{key} differs: {', '.join(values)}" for key, values in differing.items()]
    if statement.baseline is None and name != (first := next(iter(groups))):
        departures.append(f"{first} has no finished run, so {name} is the baseline")
    departures += _departures(groups, statement)
    return Comparison(statement, _with_differences(variants, statement), departures)


def variant_name(run: Trained, by: Sequence[str]) -> str:
    """Name the variant of a run: the value itself if one param makes it, else `key=value ...`."""
    values = [run.params.get(key, "none") for key in by]
    if len(by) == 1:
        return values[0]
    return " ".join(f"{key}={value}" for key, value in zip(by, values, strict=True)) or "all"


def differences(groups: Sequence[Sequence[Trained]], by: Sequence[str]) -> dict[str, list[str]]:
    """Return what keeps runs from being pooled, and the values it has.

    Within a variant nothing but the seed may differ; between variants also the params of `by`
    and what stands under them: `model` decides `model.activation`.
    """
    settings = [[{**run.params, **run.facts} for run in group] for group in groups if group]
    under = tuple(f"{key}." for key in by)
    found = {}
    for key in sorted({key for group in settings for one in group for key in one}):
        within = [{one.get(key, "none") for one in group} for group in settings]
        values = set.union(*within)
        free = key == "seed" or key in by
        between = len(values) > 1 and not key.startswith(under)
        if not free and (between or any(len(own) > 1 for own in within)):
            found[key] = sorted(values)
    return found


def _refuse_mixed_seeds(variant: str, runs: Sequence[Trained]) -> None:
    """Refuse to let one run stand for others of its seed that were set up otherwise."""
    settings: dict[int, Mapping[str, str]] = {}
    for run in runs:
        own = {**run.params, **run.facts}
        other = settings.setdefault(run.seed, own)
        if differing := sorted(k for k in {*own, *other} if own.get(k) != other.get(k)):
            raise ComparisonError(
                f"{variant} has several runs of seed {run.seed}, which differ in "
                f"{', '.join(differing)}: pick some with --filter, or name what differs in --by"
            )


def _variant(name: str, runs: Sequence[Trained], metric: str) -> Variant:
    finished = {run.seed: run for run in runs if run.status == "FINISHED"}

    def all_of(key: str) -> list[float]:
        try:
            return [run.metrics[key] for run in finished.values()]
        except KeyError:
            return []

    values = all_of(metric)
    if finished and not values:
        raise ComparisonError(
            f"not every run of {name} has {metric}; choose with --metric: {', '.join(METRICS)}"
        )
    best_epoch, parameters, epoch_seconds = (
        float(np.median(all_of(key) or np.nan))
        for key in ("best_epoch", "parameters", "epoch_seconds")
    )
    return Variant(
        name,
        {seed: run.run_id for seed, run in finished.items()},
        dict(zip(finished, values, strict=True)),
        mean_interval(values),
        mean_interval(all_of(METRICS[metric])),
        best_epoch,
        parameters,
        epoch_seconds,
        dict(Counter(run.status for run in runs if run.status != "FINISHED")),
    )


def _with_differences(variants: Sequence[Variant], statement: Statement) -> list[Variant]:
    """Add to all but the first variant how it differs from the first, seed by seed."""
    baseline, *others = variants
    pairs = [
        [v.values[seed] - baseline.values[seed] for seed in v.values if seed in baseline.values]
        for v in others
    ]
    found = compare(pairs, statement.min_effect)
    return [
        baseline,
        *(dataclasses.replace(v, difference=d) for v, d in zip(others, found, strict=True)),
    ]


def _departures(groups: Mapping[str, Sequence[Trained]], statement: Statement) -> list[str]:
    """Say where the runs are not those that were planned, or count twice or not at all."""
    said = [f"{name} was chosen after the runs" for name in statement.afterwards]
    if statement.variants and len(groups) != statement.variants:
        said.append(f"{len(groups)} of {statement.variants} planned variants have run")
    for name, runs in groups.items():
        seeds = Counter(run.seed for run in runs if run.status == "FINISHED")
        if missing := [seed for seed in statement.seeds if seed not in seeds]:
            said.append(f"{name}: no finished run of seed {', '.join(map(str, missing))}")
        if again := [seed for seed, times in seeds.items() if times > 1]:
            said.append(
                f"{name}: seed {', '.join(map(str, again))} was run more than once; "
                "the latest run counts"
            )
    return said


def points(estimate: Estimate) -> str:
    """Write a difference of accuracies in percentage points, with its interval."""
    low, mean, high = (100 * v for v in (estimate.low, estimate.mean, estimate.high))
    return f"{mean:+.2f} points [{low:+.2f}, {high:+.2f}]"


def significance(p: float) -> str:
    """Write a p-value as it is said: "p = 0.031", "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
