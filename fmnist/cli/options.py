"""Options that several commands have, and how a command opens the store."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fmnist.tracking.store import Store

study_argument = click.argument("study", required=False)
experiment_option = click.option(
    "--experiment",
    default="fmnist",
    envvar="MLFLOW_EXPERIMENT_NAME",
    show_default=True,
    help="MLflow experiment.",
)
model_option = click.option(
    "--model",
    metavar="NAME",
    help="Registered model.  [default: of the usual data set]",
)
run_option = click.option(
    "--run", "run_id", metavar="RUN_ID", help="The model of this run instead."
)
port_option = click.option(
    "--port",
    type=click.IntRange(1, 2**16 - 1),
    default=5000,
    show_default=True,
    help="Port of MLflow's UI.",
)
no_browser_option = click.option("--no-browser", is_flag=True, help="Only print the address.")


def open_store(experiment: str | None = None) -> "Store":
    """Open the store, which must be there; `--help` does not wait for the import of MLflow."""
    from fmnist.tracking.store import existing_store

    return existing_store(experiment)
