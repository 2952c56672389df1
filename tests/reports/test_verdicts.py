"""Each verdict has its sentence."""

import pytest

from evidence_samples import finished_runs, run_summary
from fmnist.evidence.comparison import StudyDesign, compare_variants
from fmnist.reports.verdicts import conclusions, highest, verdict


def test_better_and_worse_name_difference_seeds_and_p():
    [sentence] = conclusions(compare_variants(finished_runs(), StudyDesign()))
    assert sentence.startswith("selu is better than relu: +2.03 points [+1.")
    assert sentence.endswith("4 seeds, p < 0.001.")
    [sentence] = conclusions(compare_variants(finished_runs(), StudyDesign(baseline="selu")))
    assert sentence.startswith("relu is worse than selu: -2.03 points")


def test_equivalent_names_the_margin():
    runs = finished_runs() + [run_summary("copy", s, 0.86 + s / 1e5) for s in range(4)]
    runs += [run_summary("base", s, 0.86) for s in range(4)]
    comparison = compare_variants(runs, StudyDesign(baseline="base"))
    [copy] = [variant for variant in comparison.variants if variant.name == "copy"]
    assert verdict(comparison, copy) == "equivalent within 0.5 points"
    assert any(
        sentence.startswith("copy is equivalent to base within 0.5 points: +0.00 points")
        for sentence in conclusions(comparison)
    )


def test_no_evidence_is_said_with_the_seeds_that_it_takes():
    runs = [run_summary("relu", s, 0.86) for s in range(3)]
    runs += [run_summary("selu", s, accuracy) for s, accuracy in enumerate((0.85, 0.87, 0.875))]
    [sentence] = conclusions(compare_variants(runs, StudyDesign()))
    assert sentence.startswith("There is no evidence that selu differs from relu: +0.50 points")
    assert sentence.endswith("takes about 57 seeds a variant, as these seeds spread.")


def test_one_seed_concludes_nothing_and_says_how_many_would():
    runs = [run_summary("relu", 1, 0.86), run_summary("selu", 1, 0.88)]
    [sentence] = conclusions(compare_variants(runs, StudyDesign()))
    assert sentence.startswith("Nothing can be concluded about selu: seeds in common with relu: 1.")
    assert "To tell 0.5 points apart takes about " in sentence


def test_a_variant_without_finished_runs_needs_no_plan():
    runs = [*finished_runs(), run_summary("elu", 1, None, "diverged")]
    assert "Nothing can be concluded about elu: seeds in common with relu: 0." in conclusions(
        compare_variants(runs, StudyDesign())
    )


@pytest.mark.parametrize(("study", "argument"), [(None, ""), ("abc", "abc ")])
def test_the_highest_mean_comes_with_the_command_that_compares_the_others(study, argument):
    design = StudyDesign(study=study)
    assert highest(compare_variants(finished_runs(), design)).endswith("selu: 88.35 %.")
    runs = [*finished_runs(), run_summary("gelu", 1, 0.7)]
    command = f": python -m fmnist compare {argument}--baseline selu"
    assert highest(compare_variants(runs, design)).endswith(command)
