"""The registry changes its champion on evidence, validates the model, and keeps every decision."""

import dataclasses
import html
import importlib.util
import json
import py_compile
import re
import shutil
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run

from conftest import RATE
from fmnist.common.errors import ConfigError, PromotionError, TrackingError
from fmnist.config import schema
from fmnist.config.schema import Promotion
from fmnist.registry import promotion, versions
from fmnist.registry.answering import load_champion, load_run
from fmnist.registry.decision import Evidence, Outcome
from fmnist.registry.decision_log import find_decision_log, open_decision_log
from fmnist.registry.rollback import rollback
from fmnist.registry.validation import predictions_of, validate
from fmnist.tracking import studies, study_runs, tag
from fmnist.tracking.model import digest
from fmnist.tracking.store import Store

MODEL = "fmnist-digits"  # of digits in the experiment fmnist
pytestmark = pytest.mark.usefixtures("checks_in_this_process")
CRITERIA = Promotion(min_effect=0.005, alpha=0.05, max_class_drop=0.15)


@pytest.fixture
def store(copied_rates) -> Store:
    """The studies of `train_rates`, but with the two smaller rates in one."""
    opened = Store(f"sqlite:///{copied_rates}/mlflow.db", "1")
    first = studies.all_studies(opened)[0].run_id
    for run in runs_at("0.01"):
        client().set_tag(run.info.run_id, "mlflow.parentRunId", first)
    return opened


def client() -> mlflow.MlflowClient:
    return mlflow.MlflowClient()


def study_ids(store: Store) -> tuple[str, str]:
    first, _, second = (study.run_id for study in studies.all_studies(store))
    return first, second


def promote(store: Store, index: int, criteria: Promotion = CRITERIA, **options):
    return promotion.promote(store, study_ids(store)[index], criteria, **options)


def aliases() -> dict[str, int]:
    return {k: int(v) for k, v in client().get_registered_model(MODEL).aliases.items()}


def all_versions() -> dict[int, dict[str, str]]:
    return {int(v.version): v.tags for v in client().search_model_versions(f"name = '{MODEL}'")}


def runs_at(rate: str) -> list[Run]:
    return mlflow.search_runs(["1"], f"params.`{RATE}` = '{rate}'", output_format="list")


def run_of(version: int):
    return mlflow.get_run(versions.run_id_of(MODEL, version))


def test_champions_follow_one_another_on_evidence(store):
    first = promote(store, 0)
    assert (first.outcome, first.champion, first.replaced) == (Outcome.promoted, 1, None)
    assert (first.evidence.incumbent.role, first.evidence.incumbent.variant) == (
        "baseline",
        "0.003",
    )
    assert first.reason.startswith("0.01 (version 1) is the champion now: it beats the baseline")
    assert [check.name for check in first.checks] == [
        *("seeds", "run", "chosen by", "artifact", "data", "signature"),
        *("predictions", "answers", "classes"),
    ]
    assert all(check.passed for check in first.checks)
    assert aliases() == {"champion": 1}
    # The variant of the champion did not run in the second study: it comes from its own.
    second = promote(store, 1)
    assert (second.outcome, second.champion, second.replaced) == (Outcome.promoted, 2, 1)
    assert (second.evidence.incumbent.role, second.evidence.incumbent.version) == ("champion", 1)
    assert second.evidence.difference.estimate.n == 4
    assert "it beats the champion, 0.01 (version 1)" in second.reason
    assert aliases() == {"champion": 2}
    accuracies = [run.data.metrics["best_val_accuracy"] for run in runs_at("0.1")]
    assert run_of(2).data.metrics["best_val_accuracy"] == max(accuracies)
    tags = all_versions()[2]
    assert tags == {
        "outcome": "promoted",
        "decision": second.record,
        "data_set": "digits",
        "variant": "0.1",
        "seed": run_of(2).data.params["seed"],
        "val_accuracy": str(max(accuracies)),
        "model.digest": run_of(2).data.tags["model.digest"],
    }
    tags = mlflow.get_run(second.record).data.tags
    assert tags["reason"] == second.reason
    assert float(tags["effect"]) == pytest.approx(second.evidence.difference.estimate.mean)
    assert float(tags["test_accuracy"]) == run_of(2).data.metrics["best_test_accuracy"]
    assert mlflow.pyfunc.load_model(f"models:/{MODEL}@champion").metadata.signature


def test_the_record_has_all_that_the_decision_rests_on(store):
    decision = promote(store, 0)
    [record] = find_decision_log(MODEL).decisions()
    assert record.info.status == "FINISHED"
    folder = Path(mlflow.artifacts.download_artifacts(run_id=record.info.run_id))
    kept = json.loads((folder / "decision.json").read_text())
    assert kept["reason"] == decision.reason and kept["who"] and kept["when"]
    assert kept["challenger"]["values"].keys() == {"1", "2", "3", "4"}
    assert kept["difference"]["p"] == pytest.approx(decision.evidence.difference.p)
    assert kept["provenance"]["data.fingerprint"] == run_of(1).data.tags["data.fingerprint"]
    assert len(kept["checks"]) == 9 and kept["criteria"]["alpha"] == 0.05
    page = (folder / "decision.html").read_text()
    for part in (html.escape(decision.reason), "bit for bit", "corrected p", kept["study"]):
        assert part in page


@pytest.mark.parametrize(
    ("criteria", "reason"),
    [
        (dataclasses.replace(CRITERIA, min_effect=0.95), "less than 95 points"),
        (dataclasses.replace(CRITERIA, alpha=1e-9), "no evidence at 1e-09"),
    ],
)
def test_without_evidence_the_champion_stays(store, criteria, reason):
    promote(store, 0)
    decision = promote(store, 1, criteria)
    assert (decision.outcome, decision.champion) == (Outcome.kept, 1)
    assert decision.reason.startswith("The champion stays 0.01 (version 1): 0.1 against 0.01: ")
    assert reason in decision.reason
    assert aliases() == {"champion": 1, "challenger": 2}
    assert all_versions()[2]["outcome"] == "kept"


def test_the_best_challenger_is_compared_also_if_the_champion_is_better(store):
    promote(store, 0)
    decision = promote(store, 0)
    assert (decision.outcome, decision.champion) == (Outcome.kept, 1)
    assert decision.challenger.variant == "0.003" and decision.evidence.difference.estimate.mean < 0
    assert aliases() == {"champion": 1, "challenger": 2}
    # The champion's variant, which did not run in that study, comes from its own.
    promotion.promote(store, study_ids(store)[1], CRITERIA)
    worse = promote(store, 0)
    assert worse.champion == 3 and worse.evidence.incumbent.variant == "0.1"
    assert worse.challenger.variant == "0.01" and worse.evidence.difference.estimate.mean < 0


def test_the_first_champion_needs_evidence_or_first(store):
    decision = promote(store, 1)  # one variant, which is its own baseline
    assert decision.outcome is Outcome.kept and decision.champion is None
    assert decision.reason == (
        "There is no champion yet: there is nothing to compare 0.1 with; "
        "--first makes it the champion."
    )
    assert aliases() == {} and all_versions() == {}
    decision = promote(store, 1, first=True)
    assert decision.outcome is Outcome.promoted and decision.evidence.incumbent is None
    assert "without evidence" in decision.reason and aliases() == {"champion": 1}
    with pytest.raises(PromotionError, match="--first: the champion, version 1, can be compared"):
        promote(store, 0, first=True)


def test_a_dry_run_changes_nothing(store):
    decision = promote(store, 0, dry_run=True)
    assert decision.outcome is Outcome.promoted and decision.challenger.version is None
    assert all(check.passed for check in decision.checks)
    assert not client().search_registered_models()
    assert client().get_experiment_by_name(f"{MODEL}-decisions") is None
    promote(store, 0)
    before = aliases(), all_versions()
    assert promote(store, 1, dry_run=True).outcome is Outcome.promoted
    assert (aliases(), all_versions()) == before


def test_an_incomplete_variant_is_refused(store):
    first = study_ids(store)[0]
    run = runs_at("0.01")[0]
    client().set_terminated(run.info.run_id, "FAILED")
    decision = promotion.promote(store, first, CRITERIA)
    assert decision.outcome is Outcome.refused and decision.champion is None
    assert f"0.01: seed {run.data.params['seed']} did not finish" in decision.reason


def altered(run) -> None:
    with (folder_of(run) / "MLmodel").open("a") as file:
        file.write("# harmless?\n")


def missing(run) -> None:
    shutil.rmtree(folder_of(run))


def other_predictions(run, change: float = 0.01) -> None:
    path = Path(run.info.artifact_uri[7:], "predictions/validation.npz")
    kept = predictions_of(run.info.run_id)
    probabilities = kept.probabilities.copy()
    probabilities[3, 0] += change
    dataclasses.replace(kept, probabilities=probabilities).save(path)


def other_data(run) -> None:
    path = Path(run.info.artifact_uri[7:], "config/resolved.json")
    path.write_text(path.read_text().replace('"validation_size": 300', '"validation_size": 301'))


def deleted(run) -> None:
    client().delete_run(run.info.run_id)


REFUSALS = [
    (altered, "its model was altered: SHA-256 "),
    (missing, "its model is missing: "),
    (other_predictions, "for 1 of 300 validation images other than when it was trained"),
    (other_data, "it was trained on other data: digits, fingerprint "),
    (deleted, "was deleted"),
]


def test_a_decision_is_no_study_though_it_names_one(store):
    decision = promote(store, 0)
    with pytest.raises(TrackingError, match="is not a study"):
        study_runs.load(store, decision.record)


def test_predictions_may_differ_by_what_other_threads_round(store):
    promote(store, 0)
    promote(store, 1)
    other_predictions(run_of(1), 2**-20)
    decision = rollback(store, MODEL, None, "to see")
    assert decision.outcome is Outcome.restored
    [check] = [check for check in decision.checks if check.name == "predictions"]
    assert check.found == "for 300 validation images the same but for rounding, 1e-06 at most"


@pytest.mark.parametrize(("spoil", "reason"), REFUSALS)
def test_a_spoilt_model_is_refused(store, spoil, reason, capsys):
    promote(store, 0)
    promote(store, 1)
    # As a challenger that was deleted is not found at all, all are spoilt as earlier champions ...
    spoil(run_of(1))
    decision = rollback(store, MODEL, None, "to see")
    assert decision.outcome is Outcome.refused and decision.champion == 2
    assert decision.reason.startswith("The champion stays version 2: 0.01 (version 1) is refused: ")
    assert reason in decision.reason and aliases()["champion"] == 2
    with pytest.raises(PromotionError, match="is refused"):
        promotion.show(store, decision)
    assert "| NO " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("spoil", "reason"), REFUSALS[:4])
def test_a_spoilt_challenger_is_refused(store, spoil, reason):
    chosen = promote(store, 0, dry_run=True).challenger.run_id
    spoil(mlflow.get_run(chosen))  # ... and, where that can be, as challengers
    decision = promote(store, 0)
    assert decision.outcome is Outcome.refused and reason in decision.reason
    assert aliases() == {"challenger": 1} and all_versions()[1]["outcome"] == "refused"


def test_a_drop_on_one_class_is_refused(store):
    first = promote(store, 0)
    weak = runs_at("0.003")[0]
    uri = f"models:/{versions.logged_model_id(weak)}"
    evidence = Evidence(criteria=CRITERIA, incumbent=first.challenger)
    *others, drop = validate(uri, weak.info.run_id, evidence)
    assert (drop.name, drop.passed) == ("classes", False)
    assert re.fullmatch(r"\d: -\d\d\.\d points against the incumbent's model, .*", drop.found)
    lenient = dataclasses.replace(CRITERIA, max_class_drop=1.0)
    allowed = validate(uri, weak.info.run_id, dataclasses.replace(evidence, criteria=lenient))
    assert allowed[-1].passed and len(allowed) == len(others) + 1


def test_rollback_is_a_decision_of_its_own(store, capsys):
    promote(store, 0)
    with pytest.raises(PromotionError, match="there is no earlier champion"):
        rollback(store, MODEL, None, "x")
    promote(store, 1)
    decision = rollback(store, MODEL, None, "it was slow")
    assert (decision.outcome, decision.champion, decision.replaced) == (Outcome.restored, 1, 2)
    assert decision.reason == "0.01 (version 1) is the champion again: it was slow."
    assert aliases() == {"champion": 1}
    with pytest.raises(PromotionError, match="version 1: is the champion already"):
        rollback(store, MODEL, 1, "x")
    with pytest.raises(PromotionError, match="version 7: is no earlier champion; there are 2"):
        rollback(store, MODEL, 7, "x")
    assert rollback(store, MODEL, 2, "back").champion == 2
    line = [run.data.tags["champion"] for run in find_decision_log(MODEL).decisions()]
    assert line == ["1", "2", "1", "2"]


def test_a_champion_moved_by_hand_is_noticed_and_put_back(store):
    promote(store, 0)
    promote(store, 1)
    versions.set_alias(MODEL, "champion", 1)
    with pytest.raises(
        PromotionError,
        match=r"at version 1, .* made it 2: .* rollback --model fmnist-digits --to 2",
    ):
        promote(store, 1)
    assert rollback(store, MODEL, 2, "moved by hand").champion == 2
    assert aliases() == {"champion": 2}


def test_a_champion_that_was_deleted_leaves_no_champion(store):
    promote(store, 0)
    client().delete_model_version(MODEL, "1")
    with pytest.raises(PromotionError, match="version 1: is no earlier champion; there are none"):
        rollback(store, MODEL, 1, "x")
    decision = promote(store, 1, first=True)
    assert (decision.champion, decision.replaced) == (2, None) and aliases() == {"champion": 2}


def test_a_challenger_that_was_deleted_before_its_decision_was_applied_blocks_nothing(store):
    promote(store, 0)
    promote(store, 1, dataclasses.replace(CRITERIA, min_effect=0.95))
    record = find_decision_log(MODEL).decisions()[-1].info.run_id
    client().update_run(record, "RUNNING")  # as a kill leaves it
    client().delete_model_version(MODEL, "2")
    assert promote(store, 1).champion == 3
    assert mlflow.get_run(record).info.status == "FINISHED"


def test_first_is_the_way_out_where_the_champion_cannot_be_compared(store):
    promote(store, 0)
    for run in [*runs_at("0.003"), *runs_at("0.01")]:
        client().delete_run(run.info.run_id)
    with pytest.raises(PromotionError, match="--first promotes without evidence"):
        promote(store, 1)
    decision = promote(store, 1, first=True)
    assert (decision.champion, decision.replaced) == (2, 1)


def test_a_version_registered_by_hand_is_as_good_as_ours(store):
    chosen = mlflow.get_run(promote(store, 0, dry_run=True).challenger.run_id)
    open_decision_log(store, MODEL)
    mlflow.register_model(f"models:/{versions.logged_model_id(chosen)}", MODEL)
    assert promote(store, 0).champion == 1 and promote(store, 1).champion == 2
    assert rollback(store, MODEL, None, "back").champion == 1
    assert load_champion(MODEL).version == 1


def test_a_variant_with_an_unfinished_run_is_refused_also_where_no_seeds_were_planned(store):
    first = study_ids(store)[0]
    statement = json.loads(mlflow.get_run(first).data.tags[tag.STUDY])
    client().set_tag(first, tag.STUDY, json.dumps(statement | {"seeds": []}))
    client().set_terminated(runs_at("0.01")[0].info.run_id, "FAILED")
    decision = promote(store, 0)
    assert decision.outcome is Outcome.refused and "0.01: 1 FAILED" in decision.reason


def test_other_limits_than_the_studys_are_caveats(store):
    decision = promote(store, 0, dataclasses.replace(CRITERIA, min_effect=0.001))
    assert "min_effect was chosen after the runs" in decision.evidence.caveats
    usual = "promotion.min_effect is 0.001, not 0.005 as in conf/train.yaml"
    assert usual in decision.evidence.caveats


def test_a_long_reason_is_cut_in_the_tags_and_kept_in_the_record(store):
    promote(store, 0)
    promote(store, 1)
    record = mlflow.get_run(rollback(store, MODEL, None, "x" * 9000).record)
    assert len(record.data.tags["reason"]) == 4000
    kept = json.loads((Path(record.info.artifact_uri[7:], "decision.json")).read_text())
    assert "x" * 9000 in kept["reason"]


def test_a_tampered_configuration_executes_nothing(store, tmp_path):
    run = mlflow.get_run(promote(store, 0, dry_run=True).challenger.run_id)
    path = Path(run.info.artifact_uri[7:], "config/resolved.json")
    values = json.loads(path.read_text())
    values["data"] = {"_target_": "os.makedirs", "name": str(tmp_path / "made")}
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"data\._target_=os\.makedirs: is not allowed"):
        promote(store, 0)
    assert not (tmp_path / "made").exists()


def test_what_python_compiled_of_a_model_is_not_run(store, tmp_path):
    promote(store, 0)
    model = Path(
        client().get_logged_model(versions.logged_model_id(run_of(1))).artifact_location[7:]
    )
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    target = importlib.util.cache_from_source(str(model / "code" / "served_model.py"))
    Path(target).parent.mkdir(exist_ok=True)
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(evil), cfile=target, invalidation_mode=unchecked)
    before = sys.path.copy()
    load_champion(MODEL)
    assert sys.path == before and not (tmp_path / "ran").exists()


def test_a_champion_on_other_data_cannot_be_compared(store):
    promote(store, 0)
    client().set_tag(run_of(1).info.run_id, "data.fingerprint", "another")
    with pytest.raises(PromotionError, match=r"version 1, was trained on other data.* --first"):
        promote(store, 1)
    decision = promote(store, 1, first=True)
    assert (decision.outcome, decision.champion, decision.replaced) == (Outcome.promoted, 2, 1)


def test_a_champion_set_up_otherwise_cannot_be_compared(store):
    promote(store, 0)
    for run in runs_at("0.01"):
        client().set_tag(run.info.run_id, "engine", "keras")
    with pytest.raises(PromotionError, match=r"engine is compiled or keras; .*_rate=0.01"):
        promote(store, 1)


def test_a_metric_that_is_not_of_the_logged_model_is_refused(store):
    first = study_ids(store)[0]
    statement = json.loads(mlflow.get_run(first).data.tags[tag.STUDY])
    client().set_tag(first, tag.STUDY, json.dumps(statement | {"metric": "last_val_accuracy"}))
    decision = promote(store, 0)
    assert decision.outcome is Outcome.refused
    assert (
        "last_val_accuracy decided, but the logged model's is best_val_accuracy" in decision.reason
    )


def test_a_registered_model_of_somebody_else_is_left_alone(store):
    client().create_registered_model(MODEL)
    with pytest.raises(PromotionError, match="was not made by `python -m fmnist promote`"):
        promote(store, 0)


def test_the_criteria_stand_in_conf():
    assert schema.promotion() == CRITERIA
    assert schema.promotion(alpha=0.01, min_effect=None).alpha == 0.01
    with pytest.raises(schema.ConfigError, match=r"promotion.alpha=2.0: must be above 0 and below"):
        schema.promotion(alpha=2.0)


def folder_of(run: Run) -> Path:
    model = client().get_logged_model(versions.logged_model_id(run))
    return Path(model.artifact_location.removeprefix("file://"))


def sign_again(run: Run) -> None:
    """Let the store agree to a changed model, as whoever may write to it can."""
    changed = digest(folder_of(run))
    client().set_tag(run.info.run_id, "model.digest", changed)
    for version in client().search_model_versions(f"run_id = '{run.info.run_id}'"):
        client().set_model_version_tag(MODEL, version.version, "model.digest", changed)


def test_code_in_a_model_is_not_executed(store, tmp_path):
    promote(store, 0)
    run = run_of(1)
    code = folder_of(run) / "code"
    for name in ("served_model.py", "keras.py"):
        (code / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    sign_again(run)
    model = load_champion(MODEL).model
    assert list(model.predict(np.zeros((1, 8, 8), np.uint8)).columns) == list("0123456789")
    answers = validate(f"models:/{MODEL}/1", run.info.run_id, Evidence())[-1]
    assert answers.passed and "not ours, and was not executed" in answers.found
    assert not (tmp_path / "ran").exists()


def test_a_model_that_holds_code_is_refused(store, tmp_path):
    import keras

    promote(store, 0)
    run = run_of(1)
    harmful = keras.Sequential([keras.Input((8, 8)), keras.layers.Lambda(lambda x: x)])
    harmful.save(folder_of(run) / "data" / "model.keras")
    sign_again(run)
    with pytest.raises(
        PromotionError, match=r"version 1 of fmnist-digits: its model cannot be loaded: .*Lambda"
    ):
        load_champion(MODEL)
    refused = validate(f"models:/{MODEL}/1", run.info.run_id, Evidence())[-1]
    assert not refused.passed and "its model cannot be loaded" in refused.found


def test_each_model_has_champion_and_decisions_of_its_own(store):
    promote(store, 0)
    mine = dataclasses.replace(CRITERIA, model="Tim's")
    assert promote(store, 1, mine, first=True).champion == 1
    assert promote(store, 1).champion == 2
    assert [len(find_decision_log(name).run_ids()) for name in (MODEL, "Tim's")] == [2, 1]
    assert load_champion("Tim's").uri == "models:/Tim's/1"
    assert str(load_champion(MODEL)) == "fmnist-digits, version 2, trained on digits"
    hint = r"fmnist: there is no champion yet: .*; of another model: --model \S+ or --model \S+$"
    with pytest.raises(PromotionError, match=hint):
        load_champion("fmnist")


def test_a_champion_of_another_data_set_is_never_replaced(store):
    promote(store, 0)
    client().set_model_version_tag(MODEL, "1", "data_set", "fashion_mnist")
    reason = r"champion of fmnist-digits, version 1, was trained on fashion_mnist, not on digits"
    for first in (False, True):
        with pytest.raises(PromotionError, match=reason):
            promote(store, 1, first=first)
    assert aliases() == {"champion": 1}


def test_a_run_answers_without_promotion(store):
    run = runs_at("0.01")[0]
    answering = load_run(run.info.run_id)
    assert str(answering) == f"run {run.info.run_id}, trained on digits"
    assert list(answering.model.predict(np.zeros((1, 8, 8), np.uint8)).columns) == list(
        "0123456789"
    )
    with pytest.raises(PromotionError, match="is a study, which has no model"):
        load_run(study_ids(store)[0])
    with pytest.raises(PromotionError, match="run 0: there is none in this store"):
        load_run("0")
