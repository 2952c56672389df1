"""MLflow's pages of a study, in a real browser, as `python -m fmnist ui` opens them."""

import re
import shutil
import subprocess
import sys
from contextlib import contextmanager

import mlflow
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from conftest import ENVIRONMENT, PROJECT, RATE, runs_in
from fmnist.config import schema
from fmnist.registry import promotion
from fmnist.tracking import studies
from fmnist.tracking.store import Store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
FLAGS += "--disable-background-networking --disable-component-update --disable-sync"
PATIENCE = 30_000  # milliseconds
UNSERVED = "/mlflow/users/current"  # MLflow's own page asks for it even where nobody logs in
# MLflow's assistant for language models would cover a third of a first visitor's page.
WITHOUT_ASSISTANT = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; .ci/run installs it")


@contextmanager
def command(folder, *arguments):
    """Type `python -m fmnist ... --no-browser`; yield the address that it prints; then Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fmnist", *arguments, "--no-browser", "--port", "5170"],
        cwd=PROJECT,
        env=ENVIRONMENT | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed = []
    try:
        for line in process.stdout:
            printed.append(line)
            if line.startswith("http://"):
                yield line.strip()
                return
        raise AssertionError(f"no address: {''.join(printed)}")
    finally:
        process.send_signal(2)
        assert process.wait(timeout=30) == 0
        process.stdout.close()


@pytest.fixture(scope="module")
def address(study):
    with command(study, "ui") as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """An empty page, with what the browser's console complains of in `page.complaints`."""
    context = browser.new_context(viewport={"width": 1500, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.add_init_script(WITHOUT_ASSISTANT)
    page.complaints = []

    def listen(message):
        if message.type == "error" and UNSERVED not in message.location.get("url", ""):
            page.complaints.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    context.close()


def base(address):
    return address.partition("/#/")[0]


def study_and_runs(folder):
    *runs, study = sorted(runs_in(folder), key=lambda run: "study" in run.data.tags)
    return study, runs


def drawn(page: Page, source: str) -> None:
    """Wait until a picture whose address contains `source` is there and has pixels."""
    page.wait_for_function(
        "source => [...document.images].some(i => i.src.includes(source) && i.naturalWidth > 100)",
        arg=source,
        timeout=PATIENCE,
    )


@pytest.mark.slow
def test_the_runs_table_shows_variants_and_scores(page, address, study):
    assert "viewStateShareKey=variants" in address
    page.goto(address)
    table = page.get_by_role("treegrid").or_(page.get_by_role("grid")).first
    for run in study_and_runs(study)[1]:
        expect(table.get_by_text(run.info.run_name, exact=True)).to_be_visible(timeout=PATIENCE)
    for column in ("best_val_accuracy", "best_epoch", "model", "seed"):
        expect(table.get_by_role("columnheader", name=column, exact=True).first).to_be_visible()
    scores = {f"{run.data.metrics['best_val_accuracy']:.10g}" for run in study_and_runs(study)[1]}
    for score in scores:
        expect(table.get_by_text(score, exact=True).first).to_be_visible()
    assert page.complaints == []


@pytest.mark.slow
def test_the_compare_page_draws_its_chart(page, study):
    with command(study, "compare", "--open") as address:
        page.goto(address)
        heading = f"Comparing {len(study_and_runs(study)[1])} Runs from 1 Experiment"
        expect(page.get_by_text(heading)).to_be_visible(timeout=PATIENCE)
        chart = page.locator(".parcoords, .js-plotly-plot").first
        expect(chart).to_be_visible(timeout=PATIENCE)
        for label in ("val_accuracy", "model", "relu", "selu"):
            expect(chart.get_by_text(label, exact=True).first).to_be_visible()
        assert page.complaints == []


@pytest.mark.slow
def test_the_heat_map_has_a_step_slider(page, address, study):
    run = study_and_runs(study)[1][0]
    experiment, run_id = run.info.experiment_id, run.info.run_id
    where = f"/#/experiments/{experiment}/runs/{run_id}/model-metrics"
    page.goto(f"{base(address)}{where}?workflowType=machine_learning")
    page.get_by_placeholder("Search metric charts").fill("layer_health")
    drawn(page, "layer_health%2Bstep%2B0")
    slider = page.get_by_role("slider").first
    for _ in range(2):
        slider.press("ArrowRight")
    drawn(page, "layer_health%2Bstep%2B2")
    assert page.complaints == []


@pytest.mark.parametrize("picture", ["plots/learning_curves.png", "comparison/layer_health.png"])
@pytest.mark.slow
def test_a_picture_renders_among_the_artifacts(page, address, study, picture):
    parent, runs = study_and_runs(study)
    run = parent if picture.startswith("comparison") else runs[0]
    where = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/{picture}"
    page.goto(f"{base(address)}{where}?workflowType=machine_learning")
    expect(page.get_by_text(picture).first).to_be_visible(timeout=PATIENCE)
    page.wait_for_function("() => [...document.images].some(i => i.naturalWidth > 500)")
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_stands_alone(page, study, scheme):
    report = study / "mlartifacts" / study_and_runs(study)[0].info.run_id
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.emulate_media(color_scheme=scheme)
    page.goto((report / "artifacts/comparison/comparison.html").as_uri())
    expect(page.get_by_role("heading", level=1)).to_have_text("Does SELU help?")
    expect(page.get_by_text(re.compile("^The highest mean is that of"))).to_be_visible()
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 6 and min(widths) > 500
    assert [url for url in requests if not url.startswith("data:")] == [page.url]
    wide = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert wide and page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_decision_stands_alone(page, copied_rates, scheme):
    store = Store(f"sqlite:///{copied_rates}/mlflow.db", "1")
    latest = studies.latest(store)
    client = mlflow.MlflowClient()
    for run in mlflow.search_runs(["1"], f"params.`{RATE}` != '0'", output_format="list"):
        client.set_tag(run.info.run_id, "mlflow.parentRunId", latest)
    decision = promotion.promote(store, latest, schema.promotion())
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.emulate_media(color_scheme=scheme)
    folder = mlflow.get_run(decision.record).info.artifact_uri
    page.goto(f"{folder}/decision.html")
    expect(page.get_by_role("heading", level=1)).to_have_text(decision.reason)
    for text in ("Evidence", "Validation: the model as loaded from the registry", "Every seed"):
        expect(page.get_by_role("heading", name=text)).to_be_visible()
    expect(page.get_by_role("cell", name="NO", exact=True)).to_have_count(0)
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 2 and min(widths) > 500
    assert [url for url in requests if not url.startswith("data:")] == [page.url]
    wide = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert wide and page.complaints == []
