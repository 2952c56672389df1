"""Which runs may be pooled: those that differ in nothing but the variant and the seed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fmnist.common.errors import ComparisonError


@dataclass(frozen=True)
class RunSummary:
    """One run; those of different variants are paired by seed."""

    run_id: str
    status: str  # FINISHED, FAILED, diverged, ...
    params: Mapping[str, str]
    provenance: Mapping[str, str]  # data, code, engine: must be equal, too
    metrics: Mapping[str, float]
    artifacts: str  # URI
    information: Mapping[str, str] = field(default_factory=dict)  # the commit: may differ

    @property
    def seed(self) -> int:
        return int(self.params["seed"])

    @property
    def finished(self) -> bool:
        return self.status == "FINISHED"

    @property
    def settings(self) -> dict[str, str]:
        """All that must be equal for runs to be pooled."""
        return {**self.params, **self.provenance}


def check_poolable(
    groups: Mapping[str, Sequence[RunSummary]], by: Sequence[str], allow: Iterable[str]
) -> dict[str, list[str]]:
    """Return the settings of `allow`, keys or groups of them, in which runs do differ.

    Raises:
        ComparisonError: if runs differ in anything else, or if a variant has several runs of one
            seed with different settings.
    """
    unequal = unequal_settings(list(groups.values()), by)
    allowed = {key for a in allow for key in unequal if key == a or key.startswith(f"{a}.")}
    if refused := {key: values for key, values in unequal.items() if key not in allowed}:
        raise ComparisonError(
            f"the runs differ in more than {', '.join(by)} and seed: {describe_settings(refused)}. "
            f"Pick some with --filter, or pool them with --allow {','.join(refused)}"
        )
    for variant, runs in groups.items():
        _check_repeated_seeds(variant, runs)
    return unequal


def describe_settings(unequal: Mapping[str, Sequence[str]]) -> str:
    """Say in what runs differ: "seed is 1 or 2; engine is keras or compiled"."""
    return "; ".join(f"{key} is {' or '.join(values)}" for key, values in unequal.items())


def group_by_variant(
    runs: Iterable[RunSummary], variant_of: Callable[[Mapping[str, str]], str]
) -> dict[str, list[RunSummary]]:
    """Return the runs of each variant, in the order in which the variants first ran."""
    groups: dict[str, list[RunSummary]] = {}
    for run in runs:
        groups.setdefault(variant_of(run.params), []).append(run)
    return groups


def variant_name(params: Mapping[str, str], by: Sequence[str]) -> str:
    """Name a run's variant: the value itself if one param makes it, else `key=value ...`."""
    values = [params.get(key, "none") for key in by]
    if len(by) == 1:
        return values[0]
    return " ".join(f"{key}={value}" for key, value in zip(by, values, strict=True)) or "all"


def unequal_settings(
    groups: Sequence[Sequence[RunSummary]], by: Sequence[str]
) -> dict[str, list[str]]:
    """Return the settings that keep runs from being pooled, with their values.

    Within a variant only the seed may differ; between variants also the params of `by` and what
    stands under them: `model` sets `model.activation`.
    """
    settings = [[run.settings for run in group] for group in groups if group]
    under = tuple(f"{key}." for key in by)
    unequal = {}
    for key in sorted({key for group in settings for run in group for key in run} - {"seed", *by}):
        within = [{run.get(key, "none") for run in group} for group in settings]
        values = set.union(*within)
        between = len(values) > 1 and not key.startswith(under)
        if between or any(len(group) > 1 for group in within):
            unequal[key] = sorted(values)
    return unequal


def _check_repeated_seeds(variant: str, runs: Sequence[RunSummary]) -> None:
    # Only one of several runs of a seed would count.
    first: dict[int, RunSummary] = {}
    for run in runs:
        differing = first.setdefault(run.seed, run).settings.items() ^ run.settings.items()
        if keys := sorted({key for key, _ in differing}):
            raise ComparisonError(
                f"{variant} has several runs of seed {run.seed}, which differ in "
                f"{', '.join(keys)}: pick some with --filter, or name what differs in --by"
            )
