"""Which runs may be pooled, and what is said of them."""

import dataclasses
import json

import pytest

from fmnist.common.errors import ComparisonError
from fmnist.evidence.comparison import StudyDesign, comparison
from fmnist.evidence.pooling import RunSummary
from fmnist.reports import comparison_report
from fmnist.reports.verdicts import conclusions

ACCURACY = {"relu": (0.86, 0.87, 0.865, 0.858), "selu": (0.88, 0.889, 0.886, 0.879)}


def trained(model, seed, accuracy, status="FINISHED", **changes):
    params = {"model": model, "model.activation": model, "seed": str(seed), "training.epochs": "5"}
    facts = {"data.fingerprint": "abc", "engine": "compiled"}
    metrics = {"best_val_accuracy": accuracy, "best_test_accuracy": (accuracy or 0) - 0.01}
    metrics |= {"best_epoch": 4, "parameters": 271410, "epoch_seconds": 1.1}
    for key, value in changes.items():
        (facts if key.replace("_", ".") in facts else params)[key.replace("_", ".")] = value
    return RunSummary(f"{model}-{seed}", status, params, facts, metrics if accuracy else {}, "")


def runs():
    return [trained(m, s, a) for m, values in ACCURACY.items() for s, a in enumerate(values)]


def test_variants_are_compared_seed_by_seed_with_the_first():
    answer = comparison(runs(), StudyDesign())
    relu, selu = answer.variants
    assert (relu.name, relu.difference, selu.name) == ("relu", None, "selu")
    assert selu.values == dict(enumerate(ACCURACY["selu"]))
    assert selu.difference.estimate.mean == pytest.approx(0.02025)
    assert selu.test.mean == pytest.approx(selu.estimate.mean - 0.01)
    [sentence] = conclusions(answer)
    assert sentence.startswith("selu is better than relu: +2.03 points [+1.")
    assert "4 seeds, p < 0.001" in sentence
    swapped = comparison(runs(), StudyDesign(baseline="selu"))
    assert conclusions(swapped)[0].startswith("relu is worse than selu: -2.03 points")


def test_only_seeds_in_common_are_paired():
    answer = comparison([*runs(), trained("selu", 77, 0.1)], StudyDesign())
    assert answer.variants[1].estimate.n == 5
    assert answer.variants[1].difference.estimate.n == 4


def test_what_did_not_finish_is_counted_and_shown():
    extra = [
        trained("selu", 8, None, "FAILED"),
        trained("selu", 9, None, "diverged"),
        trained("relu", 9, None, "RUNNING"),
        trained("gelu", 1, None, "KILLED"),
    ]
    answer = comparison([*runs(), *extra], StudyDesign(variants=4, seeds=(0, 1, 9)))
    by_name = {v.name: v for v in answer.variants}
    assert by_name["selu"].unfinished == {"FAILED": 1, "diverged": 1}
    assert by_name["relu"].unfinished == {"RUNNING": 1}
    assert by_name["gelu"].estimate.n == 0
    text = comparison_report.markdown(answer, {})
    assert "1 FAILED, 1 diverged" in text
    assert "3 of 4 planned variants" in text
    assert "selu: no finished run of seed 9" in text
    assert "Nothing can be concluded about gelu" in text


def test_one_seed_concludes_nothing_and_says_how_many_would():
    answer = comparison([trained("relu", 1, 0.86), trained("selu", 1, 0.88)], StudyDesign())
    assert conclusions(answer)[0].startswith("Nothing can be concluded about selu")
    assert "To tell 0.5 points apart takes about " in conclusions(answer)[0]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (trained("selu", 9, 0.9, training_epochs="10"), "training.epochs is 10 or 5"),
        (trained("selu", 9, 0.9, data_fingerprint="xyz"), "data.fingerprint is abc or xyz"),
        (trained("selu", 9, 0.9, engine="keras"), "engine is compiled or keras"),
        (trained("selu", 9, 0.9, optimizer_momentum="0.9"), "optimizer.momentum is 0.9 or none"),
        (trained("selu", 9, 0.9, model_activation="elu"), "model.activation is elu or "),
        (trained("gelu", 9, 0.9, training_epochs="10"), "training.epochs is 10 or 5"),
    ],
)
def test_runs_that_differ_in_more_than_variant_and_seed_are_not_pooled_silently(changed, named):
    with pytest.raises(ComparisonError) as refused:
        comparison([*runs(), changed], StudyDesign())
    assert named in str(refused.value)
    key = named.partition(" ")[0]
    assert f"--allow {key}" in str(refused.value)
    answer = comparison([*runs(), changed], StudyDesign(), allow=[key])
    assert any(departure.startswith(f"{key} differs") for departure in answer.caveats)


def test_no_run_stands_for_another_one_of_its_seed_that_was_set_up_otherwise():
    other = trained("selu", 2, 0.5, optimizer_rate="0.1")
    with pytest.raises(
        ComparisonError, match=r"selu has several runs of seed 2, .* optimizer.rate"
    ):
        comparison([*runs(), other], StudyDesign(), allow=["optimizer"])
    answer = comparison([*runs(), other], StudyDesign(by=("model", "optimizer.rate")))
    assert len(answer.variants) == 3


def test_another_baseline_than_the_first_variant_is_told():
    answer = comparison([trained("elu", 1, None, "diverged"), *runs()], StudyDesign())
    assert answer.caveats == ["elu has no finished run, so relu is the baseline"]
    assert "Nothing can be concluded about elu: seeds in common with relu: 0." in conclusions(
        answer
    )


def test_a_question_asked_after_the_runs_says_so():
    statement = StudyDesign(baseline="relu").with_overrides(
        baseline="selu", metric=None, min_effect=0.005
    )
    assert comparison(runs(), statement).caveats == ["baseline was chosen after the runs"]


def test_any_param_can_make_the_variants():
    tried = [
        trained("relu", seed, 0.8 + rate + seed / 1000, optimizer_rate=str(rate))
        for rate in (0.01, 0.1)
        for seed in (1, 2, 3)
    ]
    answer = comparison(tried, StudyDesign(by=("optimizer.rate",)))
    assert [v.name for v in answer.variants] == ["0.01", "0.1"]
    both = comparison(tried, StudyDesign(by=("model", "optimizer.rate")))
    assert both.variants[1].name == "model=relu optimizer.rate=0.1"


def test_a_seed_that_was_run_again_counts_once():
    answer = comparison([*runs(), trained("selu", 2, 0.9)], StudyDesign())
    assert answer.variants[1].values[2] == 0.9 and answer.variants[1].estimate.n == 4
    assert answer.caveats == ["selu: seed 2 was run more than once; the latest run counts"]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            StudyDesign(metric="best_test_accuracy"),
            "metric best_test_accuracy: choose",
        ),
        (StudyDesign(baseline="elu"), "baseline elu: choose one of relu, selu"),
        (StudyDesign(min_effect=5), "min_effect 5: must be above 0 and below 1"),
        (StudyDesign(metric="last_val_accuracy"), "not every run of relu has last_val_accuracy"),
    ],
)
def test_a_question_that_cannot_be_answered_is_one_line(statement, message):
    with pytest.raises(ComparisonError, match=message):
        comparison(runs(), statement)
    with pytest.raises(ComparisonError, match="none of the 1 runs that were begun is finished"):
        comparison([trained("relu", 1, None, "FAILED")], StudyDesign())


def test_the_report_has_every_number_as_json_too():
    answer = comparison([*runs(), trained("gelu", 1, None, "KILLED")], StudyDesign())
    content = json.loads(comparison_report.as_json(answer, {}))
    assert content["variants"][1]["difference"]["verdict"] == "better"
    assert content["variants"][2]["estimate"] == {"mean": None, "low": None, "high": None, "n": 0}
    assert content["statement"]["min_effect"] == dataclasses.asdict(StudyDesign())["min_effect"]
