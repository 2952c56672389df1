"""Compare a study's variants with the champion's variant, or else with the study's baseline."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import mlflow
from mlflow.entities import Run

from fmnist.common.errors import FmnistError, PromotionError
from fmnist.config.schema import Promotion
from fmnist.evidence.comparison import Comparison, StudyDesign, Variant, compare_variants
from fmnist.evidence.pooling import (
    RunSummary,
    describe_settings,
    group_by_variant,
    unequal_settings,
)
from fmnist.registry import versions
from fmnist.tracking import study_runs, tag
from fmnist.tracking.store import Store, if_there
from fmnist.tracking.study_runs import StudyRuns


@dataclass(frozen=True)
class ChampionComparison:
    """The comparison that a promotion rests on.

    `champion` is the version whose variant is the baseline; None: the study's own baseline is.
    """

    comparison: Comparison
    champion: int | None

    @property
    def incumbent(self) -> Variant:
        """The variant that the others are compared with."""
        return self.comparison.variants[0]


def compare_with_champion(
    study: StudyRuns, champion: int | None, criteria: Promotion, first: bool
) -> ChampionComparison:
    """Compare the study's variants with the champion's, else with the study's baseline.

    Raises:
        PromotionError: if they cannot be compared with the champion's and `first` is not given,
            or if they can and it is.
    """
    store, runs = study.store, study.runs
    design = study.design.with_overrides(min_effect=criteria.min_effect)
    if champion is None:
        return ChampionComparison(compare_variants(runs, design), None)
    try:
        comparison = _compare(store, design, runs, champion)
    except FmnistError as error:
        if not first:
            raise PromotionError(f"{error}; --first promotes without evidence") from error
        return ChampionComparison(compare_variants(runs, design), None)
    if first:
        raise PromotionError(
            f"--first: the champion, version {champion}, can be compared with this study"
        )
    return ChampionComparison(comparison, champion)


def _compare(
    store: Store, design: StudyDesign, runs: Sequence[RunSummary], version: int
) -> Comparison:
    """Compare with the champion's variant, whose runs may also come from its own study."""
    run = if_there(mlflow.get_run, versions.run_id_of(version))
    if run is None:
        raise PromotionError(f"the champion, version {version}: its run is gone")
    champion = study_runs.run_summary(run)
    _check_data(champion, runs, version)
    if not any(_variant_params(other) == _variant_params(champion) for other in runs):
        runs = [*runs, *_runs_of_variant(store, run, champion)]
        if design.variants:
            design = dataclasses.replace(design, variants=design.variants + 1)
    _check_settings(champion, runs, design, version)
    baseline = design.variant_of(champion.params)
    return compare_variants(runs, dataclasses.replace(design, baseline=baseline))


def _check_data(champion: RunSummary, runs: Sequence[RunSummary], version: int) -> None:
    expected = champion.provenance.get(tag.DATA)
    if others := {run.provenance.get(tag.DATA) for run in runs if run.finished} - {expected}:
        raise PromotionError(
            f"the champion, version {version}, was trained on other data: {tag.DATA} "
            f"{expected}, not {' or '.join(map(str, others))}"
        )


def _check_settings(
    champion: RunSummary, runs: Sequence[RunSummary], design: StudyDesign, version: int
) -> None:
    finished = [run for run in runs if run.finished]
    groups = list(group_by_variant(finished, design.variant_of).values())
    if unequal := unequal_settings(groups, design.by):
        params = [key for key in dict.fromkeys([*design.by, *unequal]) if key in champion.params]
        overrides = " ".join(f"{key}={champion.params[key]}" for key in params)
        raise PromotionError(
            f"the champion, version {version}, cannot be compared with this study: "
            f"{describe_settings(unequal)}; run its variant in the same study, too: {overrides}"
        )


def _runs_of_variant(store: Store, run: Run, champion: RunSummary) -> list[RunSummary]:
    """Return the runs of the champion's variant in the study that it comes from."""
    parent = run.data.tags.get(tag.PARENT)
    runs = study_runs.load(store, parent).runs if parent else [champion]
    return [other for other in runs if _variant_params(other) == _variant_params(champion)]


def _variant_params(run: RunSummary) -> dict[str, str]:
    """Return all that makes the run's variant: its params without the seed."""
    return {key: value for key, value in run.params.items() if key != "seed"}
