"""Commands on the champion: `promote`, `history`, `rollback`, `predict` and `serve`."""

from collections.abc import Sequence

import click

from fmnist.cli.options import experiment_option, open_store, study_argument
from fmnist.common.errors import ImageError


@click.command()
@study_argument
@experiment_option
@click.option("--dry-run", is_flag=True, help="Show the decision and change nothing.")
@click.option("--first", is_flag=True, help="Without evidence, where no champion can be compared.")
@click.option("--min-effect", type=float, help="The mean must be higher by this, a fraction.")
@click.option("--alpha", type=float, help="Largest corrected p-value that is evidence.")
@click.option("--max-class-drop", type=float, help="Largest loss on any class, a fraction.")
def promote(
    study: str | None, experiment: str, dry_run: bool, first: bool, **criteria: float | None
) -> None:
    """Make a study's best model the champion if evidence says so.

    Compares the study's best variant with the champion's (without a champion: with the study's
    baseline), and registers its best run's model. The criteria are those of conf/train.yaml.

    STUDY is the run id of a study's parent run; without it, the latest study.
    """
    from fmnist.config import schema
    from fmnist.registry import promotion
    from fmnist.tracking import studies

    checked = schema.promotion(**criteria)
    store = open_store(None if study else experiment)
    study_run_id = study or studies.latest(store)
    decision = promotion.promote(store, study_run_id, checked, first=first, dry_run=dry_run)
    promotion.show(store, decision)


@click.command()
@click.option("--all", "everything", is_flag=True, help="Decisions that changed nothing, too.")
def history(everything: bool) -> None:
    """Print all champions, the present one last, with the reasons."""
    from fmnist.registry import decision_log

    open_store()
    decisions = decision_log.all_decisions()
    print(decision_log.as_table(decisions if everything else decision_log.changes(decisions)))


@click.command()
@click.option("--to", "version", type=int, metavar="VERSION", help="Default: the last before this.")
@click.option("--reason", default="no reason was given", help="In words.")
def rollback(version: int | None, reason: str) -> None:
    """Make an earlier champion the champion again.

    Its model is validated as in a promotion; nothing is compared.
    """
    from fmnist.registry import promotion, rollback

    store = open_store()
    promotion.show(store, rollback.rollback(store, version, reason))


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--json", "as_json", is_flag=True, help="Print all probabilities, as JSON.")
@click.option("--show", is_flag=True, help="Draw what the model saw, and open the picture.")
@click.option("--no-browser", is_flag=True, help="Only print where the picture is.")
def predict(images: Sequence[str], as_json: bool, show: bool, no_browser: bool) -> None:
    """Ask the champion what images show.

    IMAGE is a PNG, JPEG or .npy file, a folder of these, or - for standard input. Photographs of
    one article before a plain background are made like the data set: trimmed, shrunk, sharpened,
    centred, grey, bright on black.
    """
    from fmnist.cli import ui
    from fmnist.inference import predict

    open_store()
    predictions = predict.ask(images)
    if predictions.answers:
        print(predict.as_json(predictions) if as_json else predict.as_table(predictions))
        if show:
            ui.open_page(predict.draw(predictions).as_uri(), not no_browser)
    if predictions.problems:
        raise ImageError("; ".join(predictions.problems))


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=5001, show_default=True)
def serve(host: str, port: int) -> None:
    """Serve the champion over HTTP until Ctrl-C, by MLflow's server."""
    from fmnist.inference import server

    open_store()
    server.serve(host, port)
