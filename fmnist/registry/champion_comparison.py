"""Who is weighed against whom: a study's best variant against the champion's, or the baseline."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

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
from fmnist.tracking import study_runs
from fmnist.tracking.store import Store, if_there


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
    store: Store, study_id: str, champion: int | None, criteria: Promotion, first: bool
) -> ChampionComparison:
    """Compare the study's variants with the champion's, else with the study's baseline.

    Raises:
        PromotionError: if they cannot be compared with the champion's and `first` is not given,
            or if they can and it is.
    """
    study = study_runs.load(store, study_id)
    statement, runs = study.design, study.runs
    statement = statement.with_overrides(min_effect=criteria.min_effect)
    if champion is not None:
        try:
            answer = _against_champion(store, statement, runs, champion)
        except FmnistError as error:
            if not first:
                raise PromotionError(f"{error}; --first promotes without evidence") from error
        else:
            if first:
                raise PromotionError(
                    f"--first: the champion, version {champion}, can be compared with this study"
                )
            return ChampionComparison(answer, champion)
    return ChampionComparison(compare_variants(runs, statement), None)


def _against_champion(
    store: Store, statement: StudyDesign, runs: Sequence[RunSummary], champion: int
) -> Comparison:
    """Compare with the champion's variant, whose runs may also come from its own study."""
    run = if_there(mlflow.get_run, versions.run_id_of(champion))
    if run is None:
        raise PromotionError(f"the champion, version {champion}: its run is gone")
    own = study_runs.run_summary(run)
    name = statement.variant_of(own.params)
    key = "data.fingerprint"
    finished = [one for one in runs if one.status == "FINISHED"]
    if other := {one.provenance.get(key) for one in finished} - {own.provenance.get(key)}:
        raise PromotionError(
            f"the champion, version {champion}, was trained on other data: {key} "
            f"{own.provenance.get(key)}, not {' or '.join(map(str, other))}"
        )
    if not any(_settings(one) == _settings(own) for one in runs):
        parent = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
        others = study_runs.load(store, parent).runs if parent else [own]
        runs = [*runs, *(one for one in others if _settings(one) == _settings(own))]
        if statement.variants:
            statement = dataclasses.replace(statement, variants=statement.variants + 1)
    finished = [one for one in runs if one.status == "FINISHED"]
    groups = list(group_by_variant(finished, statement.variant_of).values())
    if differing := unequal_settings(groups, statement.by):
        params = [key for key in [*statement.by, *differing] if key in own.params]
        overrides = " ".join(f"{key}={own.params[key]}" for key in dict.fromkeys(params))
        raise PromotionError(
            f"the champion, version {champion}, cannot be compared with this study: "
            f"{describe_settings(differing)}; "
            f"run its variant in the same study, too: {overrides}"
        )
    return compare_variants(runs, dataclasses.replace(statement, baseline=name))


def _settings(run: RunSummary) -> dict[str, str]:
    """Return all that makes the run's variant: its params, but for the seed."""
    return {key: value for key, value in run.params.items() if key != "seed"}
