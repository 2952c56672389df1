"""The numbers of a comparison, its caveats, and questions that cannot be answered."""

import pytest

from evidence_samples import ACCURACY, finished_runs, run_summary
from fmnist.common.errors import ComparisonError
from fmnist.evidence.comparison import StudyDesign, compare_variants


def test_variants_are_compared_seed_by_seed_with_the_first():
    relu, selu = compare_variants(finished_runs(), StudyDesign()).variants
    assert (relu.name, relu.difference, selu.name) == ("relu", None, "selu")
    assert selu.values == dict(enumerate(ACCURACY["selu"]))
    assert selu.difference.estimate.mean == pytest.approx(0.02025)
    assert selu.test.mean == pytest.approx(selu.estimate.mean - 0.01)
    assert (selu.best_epoch, selu.parameters, selu.epoch_seconds) == (4, 271410, 1.1)


def test_only_seeds_in_common_are_paired():
    runs = [*finished_runs(), run_summary("selu", 77, 0.1)]
    selu = compare_variants(runs, StudyDesign()).variants[1]
    assert selu.estimate.n == 5
    assert selu.difference.estimate.n == 4


def test_unfinished_runs_are_counted_and_missing_seeds_named():
    unfinished = [
        run_summary("selu", 8, None, "FAILED"),
        run_summary("selu", 9, None, "diverged"),
        run_summary("relu", 9, None, "RUNNING"),
        run_summary("gelu", 1, None, "KILLED"),
    ]
    design = StudyDesign(variants=4, seeds=(0, 1, 9))
    comparison = compare_variants([*finished_runs(), *unfinished], design)
    variants = {variant.name: variant for variant in comparison.variants}
    assert variants["selu"].unfinished == {"FAILED": 1, "diverged": 1}
    assert variants["relu"].unfinished == {"RUNNING": 1}
    assert variants["gelu"].estimate.n == 0
    assert "3 of 4 planned variants have run" in comparison.caveats
    assert "selu: no finished run of seed 9" in comparison.caveats


def test_another_baseline_than_the_first_variant_is_a_caveat():
    runs = [run_summary("elu", 1, None, "diverged"), *finished_runs()]
    comparison = compare_variants(runs, StudyDesign())
    assert comparison.caveats == ["elu has no finished run, so relu is the baseline"]


def test_a_question_asked_after_the_runs_is_a_caveat():
    design = StudyDesign(baseline="relu").with_overrides(
        baseline="selu", metric=None, min_effect=0.005
    )
    comparison = compare_variants(finished_runs(), design)
    assert comparison.caveats == ["baseline was chosen after the runs"]


def test_any_param_can_make_the_variants():
    runs = [
        run_summary("relu", seed, 0.8 + rate + seed / 1000, optimizer_rate=str(rate))
        for rate in (0.01, 0.1)
        for seed in (1, 2, 3)
    ]
    comparison = compare_variants(runs, StudyDesign(by=("optimizer.rate",)))
    assert [variant.name for variant in comparison.variants] == ["0.01", "0.1"]
    by_two = compare_variants(runs, StudyDesign(by=("model", "optimizer.rate")))
    assert by_two.variants[1].name == "model=relu optimizer.rate=0.1"
    named = StudyDesign(by=("optimizer.rate",), names={"0.1": "fast"})
    assert compare_variants(runs, named).variants[1].name == "fast"


def test_a_repeated_seed_counts_once():
    runs = [*finished_runs(), run_summary("selu", 2, 0.9)]
    comparison = compare_variants(runs, StudyDesign())
    selu = comparison.variants[1]
    assert selu.values[2] == 0.9 and selu.estimate.n == 4
    assert comparison.caveats == ["selu: seed 2 was run more than once; the latest run counts"]


@pytest.mark.parametrize(
    ("design", "message"),
    [
        (StudyDesign(metric="best_test_accuracy"), "metric best_test_accuracy: choose one of best"),
        (StudyDesign(baseline="elu"), "baseline elu: choose one of relu, selu"),
        (StudyDesign(min_effect=5), "min_effect 5: must be above 0 and below 1"),
        (StudyDesign(metric="last_val_accuracy"), "not every run of relu has last_val_accuracy"),
        (StudyDesign(by=("nosuch",)), "by nosuch: no run has this param"),
    ],
)
def test_a_question_that_cannot_be_answered_is_one_line(design, message):
    with pytest.raises(ComparisonError, match=message):
        compare_variants(finished_runs(), design)


def test_without_finished_runs_there_is_nothing_to_compare():
    with pytest.raises(ComparisonError, match="no run is finished: there is nothing to compare"):
        compare_variants([run_summary("relu", 1, None, "FAILED")], StudyDesign())
    with pytest.raises(ComparisonError, match=r"no run matches: there is nothing to compare$"):
        compare_variants([], StudyDesign())
