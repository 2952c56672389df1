"""Promotion, in order: load, compare, register, validate, decide, record."""

import dataclasses

import mlflow
from mlflow.entities.model_registry import ModelVersion

from fmnist.common.errors import PromotionError
from fmnist.config import schema
from fmnist.config.schema import Promotion
from fmnist.evidence.comparison import METRICS, Comparison, StudyDesign, Variant
from fmnist.registry import report, versions
from fmnist.registry.champion_comparison import compare_with_champion, data_set_of_study
from fmnist.registry.commit import commit, read_state
from fmnist.registry.decision import Candidate, Check, Decision, Evidence, Outcome, decide
from fmnist.registry.decision_log import open_decision_log
from fmnist.registry.model_names import model_name
from fmnist.registry.validation import check_seeds, validate
from fmnist.registry.versions import DATA_SET_TAG, version_at
from fmnist.tracking import study_runs, tag
from fmnist.tracking.store import Store, find_run


def promote(
    store: Store, study_id: str, criteria: Promotion, *, first: bool = False, dry_run: bool = False
) -> Decision:
    """Make a study's best variant the champion if the evidence says so, and record the decision.

    The registered model is the one that `criteria` name, else that of data set and experiment.

    With `first` promote without evidence, where there is no champion to compare with; with
    `dry_run` change nothing.

    Raises:
        ComparisonError: if the study's runs cannot be compared.
        PromotionError: if it is a single run, or if the study cannot be compared with the champion.
    """
    _refuse_single_run(study_id)
    study = study_runs.load(store, study_id)
    data_set = data_set_of_study(study)
    experiment = str(mlflow.get_experiment(study.store.experiment_id).name)
    model = criteria.model or model_name(experiment, data_set)
    if not dry_run:
        open_decision_log(store, model)
    while True:
        before = read_state(model, apply_pending=not dry_run)
        champion = version_at(model, before.champion) if before.champion else None
        comparison = compare_with_champion(study, champion, criteria, first)
        variant = _challenging_variant(comparison, first)
        evidence = _evidence(comparison, criteria, champion, None if first else variant)
        challenger, checks = _candidate("challenger", variant), list[Check]()
        if first or evidence.difference:  # else the variant ran alone
            challenger = challenger if dry_run else _register(model, challenger, data_set)
            checks = _validate(
                _uri(model, challenger), challenger, variant, comparison.design, evidence
            )
        decision = decide(challenger, evidence, checks, before.champion)
        decision = _with_test_accuracy(decision, comparison.design.metric)
        if dry_run:
            return decision
        if committed := commit(store, decision, before, comparison):
            return committed
        print("another decision was committed meanwhile: comparing again")


def _refuse_single_run(run_id: str) -> None:
    run = find_run(run_id)
    if run and tag.SWEEP not in run.data.tags and "seed" in run.data.params:
        raise PromotionError(
            f"run {run_id}: is not a study; promotion takes one, variants over several seeds: "
            "python train.py -m model=relu,selu seed=1,2,3,4,5; without promotion this run "
            f"answers: python -m fmnist predict --run {run_id} IMAGE"
        )


def _challenging_variant(comparison: Comparison, first: bool) -> Variant:
    """Return the best variant; the baseline only where nothing is compared, or it ran alone."""
    finished = [variant for variant in comparison.variants if variant.values]
    choices = finished if first else finished[1:] or finished
    return max(choices, key=lambda variant: variant.estimate.mean)


def _evidence(
    comparison: Comparison,
    criteria: Promotion,
    champion: ModelVersion | None,
    challenger: Variant | None,
) -> Evidence:
    """Collect what the decision rests on; `challenger` is None to promote without evidence."""
    design, incumbent = comparison.design, None
    if challenger:
        role = "champion" if champion else "baseline"
        incumbent = _candidate(role, comparison.variants[0], champion)
    return Evidence(
        question=design.question,
        study=design.study,
        metric=design.metric,
        criteria=criteria,
        incumbent=incumbent,
        difference=challenger.difference if challenger else None,
        provenance=comparison.provenance,
        caveats=[*comparison.caveats, *_changed_criteria(criteria)],
    )


def _candidate(role: str, variant: Variant, registered: ModelVersion | None = None) -> Candidate:
    """Let the run of a version stand for its variant; None: the best run by validation."""
    best_seed = max(variant.values, key=lambda seed: variant.values[seed])
    run_id = str(registered.run_id) if registered else variant.run_ids[best_seed]
    seed = int(mlflow.get_run(run_id).data.params["seed"])
    version = int(registered.version) if registered else None
    return Candidate(role, variant.name, run_id, seed, version, variant.values, variant.estimate)


def _register(model: str, challenger: Candidate, data_set: str) -> Candidate:
    tags = {
        DATA_SET_TAG: data_set,
        "variant": challenger.variant,
        "seed": challenger.seed,
        "val_accuracy": challenger.values[challenger.seed],
    }
    version = versions.register(model, mlflow.get_run(challenger.run_id), tags)
    return dataclasses.replace(challenger, version=version)


def _uri(model: str, challenger: Candidate) -> str:
    if challenger.version:
        return f"models:/{model}/{challenger.version}"
    return f"models:/{versions.logged_model_id(mlflow.get_run(challenger.run_id))}"


def _validate(
    uri: str, challenger: Candidate, variant: Variant, design: StudyDesign, evidence: Evidence
) -> list[Check]:
    print(f"validating {challenger.variant}, seed {challenger.seed}, as loaded from {uri}")
    complete = check_seeds(variant, design)
    if not complete.passed:
        return [complete]
    return [complete, *validate(uri, challenger.run_id, evidence)]


def _changed_criteria(criteria: Promotion) -> list[str]:
    usual, given = dataclasses.asdict(schema.promotion()), dataclasses.asdict(criteria)
    return [
        f"promotion.{key} is {given[key]:g}, not {usual[key]:g} as in conf/train.yaml"
        for key in usual
        if key != "model" and given[key] != usual[key]
    ]


def _with_test_accuracy(decision: Decision, metric: str) -> Decision:
    """Add the test accuracy of the models, now that it cannot influence the decision."""
    accuracies = {
        candidate.role: mlflow.get_run(candidate.run_id).data.metrics.get(METRICS[metric])
        for candidate in decision.candidates
    }
    known = {role: value for role, value in accuracies.items() if value is not None}
    return dataclasses.replace(decision, test_accuracy=known)


def show(store: Store, decision: Decision) -> None:
    """Print a decision and where its page is; raise PromotionError if the model was refused."""
    print(f"\n{report.text(decision)}\n")
    if decision.record:
        print(f"{store.look_at(mlflow.get_run(decision.record))}\n")
    else:
        print("dry run: nothing was changed; the decision would be:\n")
    if decision.outcome is Outcome.refused:
        raise PromotionError(decision.reason)
    would_be = decision.reason.replace("is the champion now", "would be the champion now")
    print(decision.reason if decision.record else would_be)
