"""Runs that differ in more than the variant and the seed are not pooled silently."""

import pytest

from evidence_samples import finished_runs, run_summary
from fmnist.common.errors import ComparisonError
from fmnist.evidence.comparison import StudyDesign, compare_variants


@pytest.mark.parametrize(
    ("run", "difference"),
    [
        (run_summary("selu", 9, 0.9, training_epochs="10"), "training.epochs is 10 or 5"),
        (run_summary("selu", 9, 0.9, data_fingerprint="xyz"), "data.fingerprint is abc or xyz"),
        (run_summary("selu", 9, 0.9, engine="keras"), "engine is compiled or keras"),
        (
            run_summary("selu", 9, 0.9, optimizer_momentum="0.9"),
            "optimizer.momentum is 0.9 or none",
        ),
        (run_summary("selu", 9, 0.9, model_activation="elu"), "model.activation is elu or "),
        (run_summary("gelu", 9, 0.9, training_epochs="10"), "training.epochs is 10 or 5"),
    ],
)
def test_runs_with_other_settings_need_permission(run, difference):
    runs = [*finished_runs(), run]
    with pytest.raises(ComparisonError) as refused:
        compare_variants(runs, StudyDesign())
    assert difference in str(refused.value)
    key = difference.partition(" ")[0]
    assert f"--allow {key}" in str(refused.value)
    for allowed in (key, key.partition(".")[0]):
        comparison = compare_variants(runs, StudyDesign(), allow=[allowed])
        assert any(caveat.startswith(f"{key} differs") for caveat in comparison.caveats)


def test_runs_of_one_seed_with_different_settings_are_refused():
    runs = [*finished_runs(), run_summary("selu", 2, 0.5, optimizer_rate="0.1")]
    with pytest.raises(
        ComparisonError, match=r"selu has several runs of seed 2, .* optimizer.rate"
    ):
        compare_variants(runs, StudyDesign(), allow=["optimizer"])
    by_rate = compare_variants(runs, StudyDesign(by=("model", "optimizer.rate")))
    assert len(by_rate.variants) == 3


def test_what_all_runs_have_in_common_is_their_provenance():
    runs = [*finished_runs(), run_summary("gelu", 1, 0.8, engine="keras")]
    comparison = compare_variants(runs, StudyDesign(), allow=["engine"])
    assert comparison.provenance == {"data.fingerprint": "abc"}
