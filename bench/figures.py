"""Make the pictures of README and docs again, from what the store of this clone holds.

    python train.py
    python train.py -m +experiment=tutorial promote=true
    python bench/figures.py                 # or: make figures

It takes the latest single run, the latest study `tutorial`, the latest decision that changed the
champion and, if there is one, the latest search. Pages are photographed in Chromium. The pictures
of a measurement come from its own script: evidence.py, speed.py and scale.py.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import Run
from PIL import Image
from playwright.sync_api import Page, sync_playwright

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from fmnist.cli.ui import served  # noqa: E402
from fmnist.config.instantiate import instantiate  # noqa: E402
from fmnist.inference.predict import PICTURE  # noqa: E402
from fmnist.registry.decision_log import all_decisions, changes  # noqa: E402
from fmnist.registry.model_names import DEFAULT  # noqa: E402
from fmnist.tracking import tag, ui_pages  # noqa: E402
from fmnist.tracking.run_inputs import data_of_run  # noqa: E402
from fmnist.tracking.store import Store, existing_store, search  # noqa: E402

DOCS = PROJECT / "docs"
IMAGES = Path("docs", "images")  # in the project's folder
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PORT = 5171
OF_RUN = {
    "plots/learning_curves.png": "learning_curves.png",
    "plots/confident_mistakes.png": "confident_mistakes.png",
}
OF_STUDY = {
    "comparison/differences_from_the_baseline.png": "differences.png",
    "comparison/learning_curves.png": "study_curves.png",
    "comparison/layer_health.png": "layer_health.png",
    "comparison/disagreement.png": "disagreement.png",
}
OTHER_RUNS = {tag.PARENT, tag.STUDY, tag.REPRODUCES}  # have such a tag, single runs none
HEAT_MAPS = ("relu", "batch_norm")  # of these variants
# MLflow's assistant for language models would cover a third of a first visitor's page.
WITHOUT_ASSISTANT = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"


def main() -> None:
    """Make all pictures."""
    store = existing_store("fmnist")
    runs = search(store, f"tags.{tag.STUDY} LIKE '%'")
    searches = [run for run in runs if "search_best" in run.data.metrics]
    study = next(run for run in reversed(runs) if run.info.run_name == "tutorial")
    children = search(store, f"tags.{tag.PARENT} = '{study.info.run_id}'")
    single = [run for run in search(store) if not OTHER_RUNS & run.data.tags.keys()]
    copy_artifacts(single[-1], OF_RUN)
    copy_artifacts(study, OF_STUDY)
    if searches:
        copy_artifacts(searches[-1], {"search/trials.png": "search.png"})
    put_side_by_side(
        [next(run for run in children if run.data.params["model"] == name) for name in HEAT_MAPS]
    )
    draw_predictions(single[-1])
    with browser_page() as page:
        photograph(page, artifact(study, "comparison/comparison.html"), "report.png", 1250)
        decision = changes(all_decisions(DEFAULT))[-1]
        photograph(page, artifact(decision, "decision.html"), "decision.png", 1480)
        photograph_ui(page, store, [run.info.run_id for run in children])


def artifact(run: Run, name: str) -> Path:
    """Download an artifact of a run into the folder of outputs."""
    folder = PROJECT / "outputs" / "figures" / run.info.run_id
    uri = f"{run.info.artifact_uri}/{name}"
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))


def copy_artifacts(run: Run, names: dict[str, str]) -> None:
    """Copy artifacts of a run to docs/."""
    for name, picture in names.items():
        shutil.copy(artifact(run, name), DOCS / picture)


def put_side_by_side(runs: list[Run]) -> None:
    """Put the heat maps of the runs beside one another."""
    maps = [np.asarray(Image.open(artifact(run, "plots/layer_health.png"))) for run in runs]
    Image.fromarray(np.hstack(maps)).save(DOCS / "heat_maps.png")


def draw_predictions(run: Run) -> None:
    """Let the champion classify six test images, and a photograph made of the first."""
    test = instantiate("data", data_of_run(run)).test
    folder = PROJECT / IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(test.images[:6]):
        Image.fromarray(image).save(folder / f"test{index}.png")
    large = np.kron(255 - test.images[0], np.ones((20, 20), np.uint8))
    Image.fromarray(np.pad(large, ((60, 60), (200, 200)), constant_values=255)).save(
        folder / "photo.jpg"
    )
    command = [sys.executable, "-m", "fmnist", "predict", str(IMAGES), "--show", "--no-browser"]
    subprocess.run(command, cwd=PROJECT, check=True)
    shutil.copy(PICTURE, DOCS / "predict.png")


@contextmanager
def browser_page() -> Iterator[Page]:
    """Yield an empty page of Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1250, "height": 760})
        page.add_init_script(WITHOUT_ASSISTANT)
        yield page
        browser.close()


def photograph(page: Page, file: Path, picture: str, height: int) -> None:
    """Photograph the upper part of an HTML file."""
    page.set_viewport_size({"width": 1100, "height": height})
    page.goto(file.as_uri())
    page.screenshot(path=DOCS / picture)


def photograph_ui(page: Page, store: Store, run_ids: list[str]) -> None:
    """Photograph MLflow's table of runs, and its page that compares the runs of the study."""
    page.set_viewport_size({"width": 1250, "height": 760})
    with served(store, PORT):
        for name, path in {
            "ui_runs.png": ui_pages.experiment_page(store),
            "ui_compare.png": ui_pages.compare_page(store, run_ids),
        }.items():
            page.goto(f"http://127.0.0.1:{PORT}{path}")
            page.wait_for_timeout(20_000)  # milliseconds; a page of charts is never idle
            page.screenshot(path=DOCS / name)


if __name__ == "__main__":
    main()
