"""Promotion, told in order: weigh, register, examine, decide, record, move the alias.

Until the decision is in the ledger the champion stays; from then on whatever was left undone is
finished by the next promotion or rollback.
"""

import dataclasses
from datetime import UTC, datetime

import mlflow
from mlflow.entities import Run
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_USER

from fmnist.common.errors import PromotionError
from fmnist.config import schema
from fmnist.config.schema import Promotion
from fmnist.evidence.comparison import METRICS, Comparison, StudyDesign, Variant
from fmnist.registry import report, versions
from fmnist.registry.champion_comparison import ChampionComparison, compare_with_champion
from fmnist.registry.decision import (
    Candidate,
    Check,
    Decision,
    Outcome,
    best,
    best_seed,
    champion_stays,
    decide,
)
from fmnist.registry.decision_log import MODEL, open_decision_log
from fmnist.registry.validation import examine
from fmnist.tracking import study_runs
from fmnist.tracking.store import Store


def promote(
    store: Store,
    study_id: str,
    criteria: Promotion,
    *,
    first: bool = False,
    dry_run: bool = False,
) -> Decision:
    """Make a study's best variant the champion if the evidence says so, and record the decision.

    If another process changes the champion meanwhile, all is weighed anew.

    Args:
        store: the tracking store.
        study_id: run id of the study's parent run.
        rules: the limits.
        first: promote without evidence, where there is no champion to compare with.
        dry_run: change nothing.

    Raises:
        ComparisonError: if the study's runs cannot be compared.
        PromotionError: if the study has nothing that could be weighed against the champion.
    """
    if not dry_run:
        study_runs.load(store, study_id)  # so that a mistyped id begins no ledger
        open_decision_log(store)
    while True:
        before = versions.state(applied=not dry_run)
        weighed = compare_with_champion(store, study_id, before.champion, criteria, first)
        decision = _decided(weighed, before, criteria, first, dry_run)
        if dry_run:
            return decision
        taken = versions.commit(store, decision, before, pages(decision, weighed.comparison))
        if taken:
            return taken
        print("another decision was taken meanwhile: weighing anew")


def _decided(
    weighed: ChampionComparison,
    before: versions.State,
    criteria: Promotion,
    first: bool,
    dry_run: bool,
) -> Decision:
    """Register the best run's model, examine it, and decide; a dry run only examines it."""
    answer = weighed.comparison
    incumbent = None if first else _incumbent(weighed)
    chosen, challenger, checks = _challenged(answer, incumbent, criteria, dry_run)
    difference = None if first else chosen.difference
    stays = champion_stays(before.champion, incumbent)
    outcome, reason = decide(challenger, incumbent, difference, criteria, checks, stays)
    if outcome is Outcome.promoted and first and before.champion:
        reason += f" It takes the place of version {before.champion}."
    who, when = signed()
    decision = Decision(
        outcome,
        reason,
        champion=challenger.version if outcome is Outcome.promoted else before.champion,
        replaced=before.champion,
        challenger=challenger,
        who=who,
        when=when,
        question=answer.design.question,
        study=answer.design.study,
        metric=answer.design.metric,
        criteria=criteria,
        incumbent=incumbent,
        difference=difference,
        checks=checks,
        provenance=answer.provenance,
        caveats=[*answer.caveats, *_other_limits(criteria)],
    )
    return _with_test_accuracy(decision, METRICS[answer.design.metric])


def _challenged(
    answer: Comparison, incumbent: Candidate | None, criteria: Promotion, dry_run: bool
) -> tuple[Variant, Candidate, list[Check]]:
    """Return the best variant, its best run as the challenger, and what the gate found.

    A variant that ran alone, with nothing to be weighed against, is not examined.
    """
    finished = [variant for variant in answer.variants if variant.values]
    chosen = best(finished[1:] or finished if incumbent else finished)
    run = mlflow.get_run(chosen.run_ids[best_seed(chosen)])
    if incumbent and not chosen.difference:
        return chosen, _side("challenger", chosen, run, None), []
    version = None if dry_run else _challenging(run, chosen)
    uri = f"models:/{f'{MODEL}/{version}' if version else versions.logged_model_id(run)}"
    print(f"examining {chosen.name}, seed {run.data.params['seed']}, as loaded from {uri}")
    checks = _examined(uri, run, chosen, incumbent, answer.design, criteria)
    return chosen, _side("challenger", chosen, run, version), checks


def _challenging(run: Run, variant: Variant) -> int:
    """Register a run's model and make it the challenger."""
    seed = int(run.data.params["seed"])
    tags = {"variant": variant.name, "seed": seed, "val_accuracy": variant.values[seed]}
    version = versions.register(run, tags)
    versions.set_alias(versions.CHALLENGER, version)
    return version


def _examined(
    uri: str,
    run: Run,
    chosen: Variant,
    incumbent: Candidate | None,
    statement: StudyDesign,
    criteria: Promotion,
) -> list[Check]:
    """Check that no seed of the variant is missing, then the model."""
    missing = [
        f"seed {seed} did not finish" for seed in statement.seeds if seed not in chosen.values
    ]
    missing = missing or [f"{number} {status}" for status, number in chosen.unfinished.items()]
    said = ", ".join(missing) or f"{len(chosen.values)} finished"
    complete = Check("seeds", not missing, f"{chosen.name}: {said}")
    if missing:
        return [complete]
    against = incumbent.run_id if incumbent else None
    found = examine(uri, run.info.run_id, statement.metric, against, criteria.max_class_drop)
    return [complete, *found]


def _incumbent(weighed: ChampionComparison) -> Candidate:
    """Return the champion, with all seeds of its variant, else the baseline and its best run."""
    variant, version = weighed.incumbent, weighed.champion
    if version is None:
        run = mlflow.get_run(variant.run_ids[best_seed(variant)])
        return _side("baseline", variant, run, None)
    run = mlflow.get_run(versions.run_id_of(version))
    return _side("champion", variant, run, version)


def _side(role: str, variant: Variant, run: Run, version: int | None) -> Candidate:
    seed = int(run.data.params["seed"])
    return Candidate(
        role, variant.name, run.info.run_id, seed, version, variant.values, variant.estimate
    )


def signed() -> tuple[str, str]:
    """Return who decides, and when."""
    who = resolve_tags().get(MLFLOW_USER, "unknown")
    return who, datetime.now(UTC).isoformat(timespec="seconds")


def _other_limits(criteria: Promotion) -> list[str]:
    """Say which limits are not those of conf/train.yaml."""
    usual, own = dataclasses.asdict(schema.promotion()), dataclasses.asdict(criteria)
    return [
        f"promotion.{key} is {own[key]:g}, not {usual[key]:g} as in conf/train.yaml"
        for key in usual
        if own[key] != usual[key]
    ]


def _with_test_accuracy(decision: Decision, metric: str) -> Decision:
    """Add, now that all is decided, what the models are worth on the test set."""
    sides = [side for side in (decision.challenger, decision.incumbent) if side]
    found = {side.role: mlflow.get_run(side.run_id).data.metrics.get(metric) for side in sides}
    known = {role: value for role, value in found.items() if value is not None}
    return dataclasses.replace(decision, test_accuracy=known)


def pages(decision: Decision, answer: Comparison | None) -> dict[str, str]:
    """Return the decision for programs and for people, by name of the file."""
    return {
        "decision.json": report.as_json(decision),
        "decision.html": report.html(decision, answer),
    }


def show(store: Store, decision: Decision) -> None:
    """Print a decision, the reason last, and where its page is.

    Raises:
        PromotionError: if the model was refused.
    """
    print(f"\n{report.text(decision)}\n")
    if decision.record:
        print(f"{store.look_at(mlflow.get_run(decision.record))}\n")
    else:
        print("dry run: nothing was changed, and so it would be decided:\n")
    if decision.outcome is Outcome.refused:
        raise PromotionError(decision.reason)
    would_be = decision.reason.replace("is the champion now", "would be the champion now")
    print(decision.reason if decision.record else would_be)
