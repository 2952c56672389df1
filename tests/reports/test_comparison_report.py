"""Text, JSON and page of a comparison say what it found."""

import dataclasses
import json
import re
from functools import partial
from html import unescape

import pytest

from evidence_samples import finished_runs, layer_health, run_summary
from fmnist.evidence.comparison import StudyDesign, compare_variants
from fmnist.evidence.layer_health import sentences
from fmnist.reports import comparison_plots, comparison_report
from fmnist.reports.pictures import rendered
from fmnist.reports.verdicts import conclusions, highest

HEALTH = {"relu": layer_health([50, 5, 1], [1, 1, 1])}
DESIGN = StudyDesign(question="Is <selu> better?", seeds=(0, 1, 2, 3, 4))


@pytest.fixture(scope="module")
def comparison():
    return compare_variants([*finished_runs(), run_summary("gelu", 1, None, "FAILED")], DESIGN)


def all_sentences(comparison):
    return [
        highest(comparison),
        *conclusions(comparison),
        *comparison.caveats,
        *sentences(HEALTH),
    ]


def test_the_text_says_it_all_and_what_is_decided_in_bold(comparison):
    text = comparison_report.markdown(comparison, HEALTH)
    assert text.startswith("## Is \\<selu> better?\n\n(best_val_accuracy decides; ")
    for sentence in all_sentences(comparison):
        assert sentence in text
    better, nothing = conclusions(comparison)
    assert f"\n- **{better}**\n- {nothing}\n" in text
    assert "| 1 FAILED" in text
    assert "relu: no finished run of seed 4" in text


def test_one_variant_has_neither_differences_nor_verdicts():
    comparison = compare_variants(finished_runs()[:4], StudyDesign())
    text = comparison_report.markdown(comparison, {})
    assert "against" not in text and "### " not in text and "\n\n\n" not in text
    assert comparison_report.html(comparison, {}, {}).count("<table>") == 2  # means and origin


def test_a_terminal_shows_the_text_rendered(comparison, monkeypatch, capsys):
    comparison_report.show(comparison, HEALTH)
    assert capsys.readouterr().out.strip() == comparison_report.markdown(comparison, HEALTH)
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    comparison_report.show(comparison, HEALTH)
    shown = capsys.readouterr().out
    assert "Is <selu> better?" in shown
    assert f"\x1b[1m{conclusions(comparison)[0]}" in shown


def test_the_page_needs_no_other_file_and_says_it_all(comparison):
    pictures = rendered({"Every seed": partial(comparison_plots.seeds, comparison)})
    page = comparison_report.html(comparison, HEALTH, pictures)
    assert "Is &lt;selu&gt; better?" in page and "<selu>" not in page
    assert not re.search(r"(src|href)=.(?!data:)", page)
    assert page.count("data:image/png;base64,iVBOR") == 1
    for sentence in all_sentences(comparison):
        assert sentence in unescape(page)
    for run_id in comparison.variants[0].run_ids.values():
        assert run_id in page
    assert re.search(r'<li class="better">\s*selu is better', page)


def test_the_json_has_every_number():
    unfinished = run_summary("gelu", 1, None, "KILLED")
    comparison = compare_variants([*finished_runs(), unfinished], StudyDesign())
    content = json.loads(comparison_report.as_json(comparison, HEALTH))
    assert content["variants"][1]["difference"]["verdict"] == "better"
    assert content["variants"][2]["estimate"] == {"mean": None, "low": None, "high": None, "n": 0}
    assert content["design"]["min_effect"] == dataclasses.asdict(StudyDesign())["min_effect"]
    assert content["provenance"] == {"data.fingerprint": "abc", "engine": "compiled"}
    assert content["caveats"] == [] and content["conclusions"] == conclusions(comparison)
    assert content["layer_health"][0]["layer health"] == "relu"
