"""Which runs may be pooled: those that differ in nothing but the variant and the seed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fmnist.common.errors import ComparisonError


@dataclass(frozen=True)
class RunSummary:
    """One run: how it ended (FINISHED, FAILED, diverged, ...), its params, facts and metrics.

    `facts` is what must be equal, too, for runs to be pooled: data, code, engine. `artifacts` is
    where they lie.
    """

    run_id: str
    status: str
    params: Mapping[str, str]
    provenance: Mapping[str, str]
    metrics: Mapping[str, float]
    artifacts: str

    @property
    def seed(self) -> int:
        """The seed, which pairs runs of different variants."""
        return int(self.params["seed"])


def check_poolable(
    groups: Mapping[str, Sequence[RunSummary]], by: Sequence[str], allow: Iterable[str]
) -> dict[str, list[str]]:
    """Return in what the runs of all variants differ all the same, because `allow` names it.

    Raises:
        ComparisonError: if they differ in anything else, or if a variant has several runs of one
            seed that are set up differently.
    """
    differing = differences(list(groups.values()), by)
    allowed = {key for a in allow for key in differing if key == a or key.startswith(f"{a}.")}
    if refused := {key: values for key, values in differing.items() if key not in allowed}:
        raise ComparisonError(
            f"the runs differ in more than {', '.join(by)} and seed: "
            + told(refused)
            + f". Pick some with --filter, or pool them with --allow {','.join(refused)}"
        )
    for variant, group in groups.items():
        _refuse_mixed_seeds(variant, group)
    return differing


def told(differing: Mapping[str, Sequence[str]]) -> str:
    """Say in what runs differ: "seed is 1 or 2; engine is keras or compiled"."""
    return "; ".join(f"{key} is {' or '.join(values)}" for key, values in differing.items())


def grouped(
    runs: Sequence[RunSummary], variant_of: Callable[[Mapping[str, str]], str]
) -> dict[str, list[RunSummary]]:
    """Return the runs of each variant, in the order in which they first ran.

    Args:
        runs: of all variants.
        variant_of: names the variant of a run with such params.
    """
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


def differences(groups: Sequence[Sequence[RunSummary]], by: Sequence[str]) -> dict[str, list[str]]:
    """Return what keeps runs from being pooled, and the values it has.

    Within a variant nothing but the seed may differ; between variants also the params of `by`
    and what stands under them: `model` decides `model.activation`.
    """
    settings = [[{**run.params, **run.provenance} for run in group] for group in groups if group]
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


def _refuse_mixed_seeds(variant: str, runs: Sequence[RunSummary]) -> None:
    """Refuse to let one run stand for others of its seed that were set up otherwise."""
    settings: dict[int, Mapping[str, str]] = {}
    for run in runs:
        own = {**run.params, **run.provenance}
        other = settings.setdefault(run.seed, own)
        if differing := sorted(k for k in {*own, *other} if own.get(k) != other.get(k)):
            raise ComparisonError(
                f"{variant} has several runs of seed {run.seed}, which differ in "
                f"{', '.join(differing)}: pick some with --filter, or name what differs in --by"
            )
