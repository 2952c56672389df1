"""Compare a study's variants with the champion's variant, or else with the study's baseline."""

import dataclasses
from collections.abc import Sequence

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from fmnist.common.errors import FmnistError, PromotionError
from fmnist.config.schema import Promotion
from fmnist.evidence import pooling
from fmnist.evidence.comparison import Comparison, StudyDesign, compare_variants
from fmnist.evidence.pooling import RunSummary
from fmnist.registry.model_names import data_set_of
from fmnist.registry.versions import data_set_of_version
from fmnist.tracking import study_runs, tag
from fmnist.tracking.store import Store, if_there
from fmnist.tracking.study_runs import StudyRuns


def compare_with_champion(
    study: StudyRuns, champion: ModelVersion | None, criteria: Promotion, first: bool
) -> Comparison:
    """Compare the study's variants with the champion's, else with the study's baseline.

    Raises:
        PromotionError: if they cannot be compared with the champion's and `first` is not given,
            or if they can and it is; or if the champion is of another data set.
    """
    design = study.design.with_overrides(min_effect=criteria.min_effect)
    if champion is None:
        return compare_variants(study.runs, design)
    _check_data_set(study, champion)
    try:
        comparison = _compare(study.store, design, study.runs, champion)
    except FmnistError as error:
        if not first:
            raise PromotionError(f"{error}; --first promotes without evidence") from error
        return compare_variants(study.runs, design)
    if first:
        raise PromotionError(
            f"--first: the champion, version {champion.version}, can be compared with this study"
        )
    return comparison


def data_set_of_study(study: StudyRuns) -> str:
    """Return the name of the data set of a study's runs; refuse more than one."""
    names = dict.fromkeys(data_set_of(run.params) for run in study.runs)
    if len(names) != 1:
        found = f"trained on {' and '.join(names)}" if names else "has no runs"
        raise PromotionError(f"study {study.design.study}: {found}; a champion is of one data set")
    return next(iter(names))


def _compare(
    store: Store, design: StudyDesign, runs: Sequence[RunSummary], registered: ModelVersion
) -> Comparison:
    """Compare with the champion's variant, whose runs may also come from its own study."""
    run, version = if_there(mlflow.get_run, registered.run_id), int(registered.version)
    if run is None:
        raise PromotionError(f"the champion, version {version}: its run is gone")
    champion = study_runs.run_summary(run)
    _check_data(champion, runs, version)
    if not any(_are_of_one_variant(other, champion) for other in runs):
        runs = [*runs, *_runs_of_variant(store, run, champion)]
        if design.variants:
            design = dataclasses.replace(design, variants=design.variants + 1)
    _check_settings(champion, runs, design, version)
    baseline = design.variant_of(champion.params)
    return compare_variants(runs, dataclasses.replace(design, baseline=baseline))


def _check_data_set(study: StudyRuns, champion: ModelVersion) -> None:
    """Refuse, also with `--first`, to replace a champion by one that knows other classes."""
    data_set, of_study = data_set_of_version(champion), data_set_of_study(study)
    if data_set not in (None, of_study):
        raise PromotionError(
            f"the champion of {champion.name}, version {champion.version}, was trained on "
            f"{data_set}, not on {of_study}; choose another model: --model, promotion.model"
        )


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
    groups = list(pooling.group_by_variant(finished, design.variant_of).values())
    if unequal := pooling.unequal_settings(groups, design.by):
        params = [key for key in dict.fromkeys([*design.by, *unequal]) if key in champion.params]
        overrides = " ".join(f"{key}={champion.params[key]}" for key in params)
        raise PromotionError(
            f"the champion, version {version}, cannot be compared with this study: "
            f"{pooling.describe_settings(unequal)}; run its variant in the same study, too: "
            f"{overrides}"
        )


def _runs_of_variant(store: Store, run: Run, champion: RunSummary) -> list[RunSummary]:
    """Return the runs of the champion's variant in the study that it comes from."""
    parent = run.data.tags.get(tag.PARENT)
    runs = study_runs.load(store, parent).runs if parent else [champion]
    return [other for other in runs if _are_of_one_variant(other, champion)]


def _are_of_one_variant(run: RunSummary, other: RunSummary) -> bool:
    """Tell whether no param of two runs differs but the seed."""
    return {**run.params, "seed": ""} == {**other.params, "seed": ""}
