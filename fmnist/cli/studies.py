"""Commands on studies: `compare`, `studies` and `ui`."""

from typing import TYPE_CHECKING, Any

import click

from fmnist.cli.options import (
    experiment_option,
    no_browser_option,
    open_store,
    port_option,
    study_argument,
)

if TYPE_CHECKING:
    from fmnist.evidence.comparison import Comparison


@click.command()
@study_argument
@click.option("--runs", is_flag=True, help="Compare all runs of the experiment instead.")
@click.option("--filter", metavar="F", help="Compare runs like these: \"params.model='relu'\".")
@experiment_option
@click.option("--by", metavar="PARAM,…", help="Params that make the variants.  [default: model]")
@click.option("--metric", help="best_val_accuracy or last_val_accuracy decides.")
@click.option("--baseline", metavar="VARIANT", help="Compare the others with this one.")
@click.option("--min-effect", type=float, help="Difference that matters.  [default: 0.005]")
@click.option("--allow", default="", metavar="KEY,…", help="The runs may differ in these.")
@click.option(
    "--format",
    type=click.Choice(["terminal", "markdown", "json", "html"]),
    default="terminal",
    show_default=True,
)
@click.option("--open", is_flag=True, help="Then open the runs in MLflow's UI.")
@port_option
@no_browser_option
def compare(study: str | None, **options: Any) -> None:
    """Compare variants over seeds.

    Prints means with intervals, and paired differences from a baseline with a verdict.

    STUDY is the run id of a study's parent run. Without STUDY, --runs or --filter, the latest
    study is compared.
    """
    if sum(map(bool, (study, options["runs"], options["filter"]))) > 1:
        raise click.UsageError("STUDY, --runs and --filter exclude one another")
    from fmnist.cli import ui
    from fmnist.evidence.comparison import StudyDesign, compare_variants
    from fmnist.tracking import studies, study_runs, ui_pages

    store = open_store(None if study else options["experiment"])
    if options["runs"] or options["filter"]:
        design, runs = StudyDesign(), study_runs.runs_of(store, options["filter"])
    else:
        loaded = study_runs.load(store, study or studies.latest(store))
        store, design, runs = loaded.store, loaded.design, loaded.runs
    design = design.with_overrides(
        metric=options["metric"],
        by=tuple(options["by"].split(",")) if options["by"] else None,
        baseline=options["baseline"],
        min_effect=options["min_effect"],
    )
    result = compare_variants(runs, design, allow=options["allow"].split(","))
    _print_comparison(result, options["format"])
    if options["open"]:
        run_ids = [run_id for variant in result.variants for run_id in variant.run_ids.values()]
        page = ui_pages.compare_page(store, run_ids)
        ui.show(store, page, options["port"], not options["no_browser"])


def _print_comparison(result: "Comparison", form: str) -> None:
    from fmnist.reports import comparison_report
    from fmnist.tracking import artifacts, study_comparison

    healths = artifacts.health(result)
    if form == "html":
        print(comparison_report.html(result, healths, study_comparison.pictures(result, healths)))
    elif form == "json":
        print(comparison_report.as_json(result, healths))
    elif form == "markdown":
        print(comparison_report.markdown(result, healths))
    else:
        comparison_report.show(result, healths)


@click.command("studies")
@experiment_option
def list_studies(experiment: str) -> None:
    """List the studies of the experiment, the latest last."""
    from dataclasses import astuple

    from fmnist.common.terminal import table
    from fmnist.tracking import studies

    rows = [astuple(study) for study in studies.all_studies(open_store(experiment))]
    print(table(["STUDY", "name", "begun", "status", "question"], rows))


@click.command("ui")
@experiment_option
@port_option
@no_browser_option
def open_ui(experiment: str, port: int, no_browser: bool) -> None:
    """Open MLflow's UI at the runs of the experiment."""
    from fmnist.cli import ui
    from fmnist.tracking.ui_pages import experiment_page

    store = open_store(experiment)
    ui.show(store, experiment_page(store), port, not no_browser)
