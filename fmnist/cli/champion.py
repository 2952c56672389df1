"""Commands on the champion: `promote`, `history`, `rollback`, `predict` and `serve`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fmnist.cli.options import (
    experiment_option,
    model_option,
    open_store,
    run_option,
    study_argument,
)
from fmnist.common.errors import ImageError

if TYPE_CHECKING:
    from fmnist.registry.answering import AnsweringModel


@click.command()
@study_argument
@experiment_option
@click.option("--dry-run", is_flag=True, help="Show the decision and change nothing.")
@click.option("--first", is_flag=True, help="Without evidence, where no champion can be compared.")
@click.option("--min-effect", type=float, help="The mean must be higher by this, a fraction.")
@click.option("--alpha", type=float, help="Largest corrected p-value that is evidence.")
@click.option("--max-class-drop", type=float, help="Largest loss on any class, a fraction.")
@click.option("--model", metavar="NAME", help="Registered model.  [default: of the study's data]")
def promote(
    study: str | None, experiment: str, dry_run: bool, first: bool, **criteria: float | str | None
) -> None:
    """Make a study's best model the champion if evidence says so.

    Compares the study's best variant with the champion's (without a champion: with the study's
    baseline), and registers its best run's model. The criteria are those that the study began with.

    STUDY is the run id of a study's parent run; without it, the latest study.
    """
    from fmnist.config import schema
    from fmnist.registry import promotion
    from fmnist.tracking import studies

    schema.promotion(**criteria)  # refuse a bad value at once
    store = open_store(None if study else experiment)
    study_run_id = study or studies.latest(store)
    checked = schema.promotion(studies.criteria_of(study_run_id), **criteria)
    decision = promotion.promote(store, study_run_id, checked, first=first, dry_run=dry_run)
    promotion.show(store, decision)


@click.command()
@click.option("--all", "everything", is_flag=True, help="Decisions that changed nothing, too.")
@model_option
@experiment_option
def history(everything: bool, model: str | None, experiment: str) -> None:
    """Print all champions, the present one last, with the reasons."""
    from fmnist.registry import decision_log
    from fmnist.registry.model_names import asked_for

    open_store()
    name = asked_for(model, experiment)
    decisions = decision_log.all_decisions(name)
    shown = decisions if everything else decision_log.changes(decisions)
    if not shown:
        raise decision_log.no_champion(name)
    print(f"{name}\n\n{decision_log.as_table(shown)}")


@click.command()
@click.option("--to", "version", type=int, metavar="VERSION", help="Default: the last before this.")
@click.option("--reason", default="no reason was given", help="In words.")
@model_option
@experiment_option
def rollback(version: int | None, reason: str, model: str | None, experiment: str) -> None:
    """Make an earlier champion the champion again.

    Its model is validated as in a promotion; nothing is compared.
    """
    from fmnist.registry import promotion, rollback
    from fmnist.registry.model_names import asked_for

    store, name = open_store(), asked_for(model, experiment)
    promotion.show(store, rollback.rollback(store, name, version, reason))


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--json", "as_json", is_flag=True, help="Print all probabilities, as JSON.")
@click.option("--show", is_flag=True, help="Draw what the model saw, and open the picture.")
@click.option("--no-browser", is_flag=True, help="Only print where the picture is.")
@run_option
@model_option
@experiment_option
def predict(
    images: Sequence[str], as_json: bool, show: bool, no_browser: bool, **which: str | None
) -> None:
    """Ask the champion, or the model of a run, what images show.

    IMAGE is a PNG, JPEG, WebP, GIF or .npy file, a folder of these, or - for standard input.
    Photographs of one article before a plain background are made like the data set: trimmed,
    shrunk, sharpened, centred, grey, bright on black.
    """
    from fmnist.cli import ui
    from fmnist.inference import predict, preprocessing

    open_store()
    files = preprocessing.files_of(images)
    predictions = predict.ask(_answering(**which), files)
    if predictions.answers:
        print(predict.as_json(predictions) if as_json else predict.as_table(predictions))
        if show:
            ui.open_page(predict.draw(predictions).as_uri(), not no_browser)
    if predictions.problems:
        raise ImageError("; ".join(predictions.problems))


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=5001, show_default=True)
@run_option
@model_option
@experiment_option
def serve(host: str, port: int, **which: str | None) -> None:
    """Serve the champion, or the model of a run, over HTTP until Ctrl-C, by MLflow's server."""
    from fmnist.inference import server

    open_store()
    server.serve(lambda: _answering(**which), host, port)


def _answering(run_id: str | None, model: str | None, experiment: str | None) -> "AnsweringModel":
    """Load the model that the options mean."""
    if run_id and model:
        raise click.UsageError("--run and --model exclude one another")
    from fmnist.registry import answering
    from fmnist.registry.model_names import asked_for

    if run_id:
        return answering.load_run(run_id)
    return answering.load_champion(asked_for(model, str(experiment)))
