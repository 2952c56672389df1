"""Promotion, in order: load, compare, register, validate, decide, record."""

import dataclasses

import mlflow

from fmnist.common.errors import PromotionError
from fmnist.config import schema
from fmnist.config.schema import Promotion
from fmnist.evidence.comparison import METRICS, Comparison, StudyDesign, Variant
from fmnist.registry import report, versions
from fmnist.registry.champion_comparison import compare_with_champion
from fmnist.registry.commit import commit, read_state
from fmnist.registry.decision import Candidate, Check, Decision, Evidence, Outcome, decide
from fmnist.registry.decision_log import MODEL, open_decision_log
from fmnist.registry.validation import check_seeds, validate
from fmnist.tracking import study_runs
from fmnist.tracking.store import Store


def promote(
    store: Store, study_id: str, criteria: Promotion, *, first: bool = False, dry_run: bool = False
) -> Decision:
    """Make a study's best variant the champion if the evidence says so, and record the decision.

    With `first` promote without evidence, where there is no champion to compare with; with
    `dry_run` change nothing.

    Raises:
        ComparisonError: if the study's runs cannot be compared.
        PromotionError: if the study cannot be compared with the champion.
    """
    study = study_runs.load(store, study_id)
    if not dry_run:
        open_decision_log(store)
    while True:
        before = read_state(apply_pending=not dry_run)
        comparison = compare_with_champion(study, before.champion, criteria, first)
        variant = _challenging_variant(comparison, first)
        evidence = _evidence(comparison, criteria, before.champion, None if first else variant)
        challenger, checks = _candidate("challenger", variant), list[Check]()
        if first or evidence.difference:  # else the variant ran alone
            challenger = challenger if dry_run else _register(challenger)
            checks = _validate(challenger, variant, comparison.design, evidence)
        decision = decide(challenger, evidence, checks, before.champion)
        decision = _with_test_accuracy(decision, comparison.design.metric)
        if dry_run:
            return decision
        if committed := commit(store, decision, before, comparison):
            return committed
        print("another decision was committed meanwhile: comparing again")


def _challenging_variant(comparison: Comparison, first: bool) -> Variant:
    """Return the best variant; the baseline only where nothing is compared, or it ran alone."""
    finished = [variant for variant in comparison.variants if variant.values]
    choices = finished if first else finished[1:] or finished
    return max(choices, key=lambda variant: variant.estimate.mean)


def _evidence(
    comparison: Comparison, criteria: Promotion, champion: int | None, challenger: Variant | None
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


def _candidate(role: str, variant: Variant, version: int | None = None) -> Candidate:
    """Let the run of a version stand for its variant; None: the best run by validation."""
    best_seed = max(variant.values, key=lambda seed: variant.values[seed])
    run_id = versions.run_id_of(version) if version else variant.run_ids[best_seed]
    seed = int(mlflow.get_run(run_id).data.params["seed"])
    return Candidate(role, variant.name, run_id, seed, version, variant.values, variant.estimate)


def _register(challenger: Candidate) -> Candidate:
    tags = {
        "variant": challenger.variant,
        "seed": challenger.seed,
        "val_accuracy": challenger.values[challenger.seed],
    }
    version = versions.register(mlflow.get_run(challenger.run_id), tags)
    return dataclasses.replace(challenger, version=version)


def _validate(
    challenger: Candidate, variant: Variant, design: StudyDesign, evidence: Evidence
) -> list[Check]:
    if challenger.version:
        uri = f"models:/{MODEL}/{challenger.version}"
    else:
        uri = f"models:/{versions.logged_model_id(mlflow.get_run(challenger.run_id))}"
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
        if given[key] != usual[key]
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
