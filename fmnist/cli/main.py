"""The command line of `python -m fmnist`: commands on finished runs."""

import logging
import sys
from collections.abc import Sequence

import click

from fmnist import __version__
from fmnist.cli import champion, studies
from fmnist.cli.options import open_store
from fmnist.common.exits import usage_error


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(commands, "python -m fmnist", arguments)


def run_command(group: click.Group, program: str, arguments: Sequence[str] | None) -> None:
    """Run the command of a group that the arguments name; a usage error ends with status 2.

    Click's own `main` would hide an interrupt.
    """
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        with group.make_context(program, words, help_option_names=["-h", "--help"]) as context:
            group.invoke(context)
    except click.UsageError as error:
        usage_error(error.format_message())
    except click.exceptions.Exit as end:  # of --help
        sys.exit(end.exit_code)


def fraction(text: str) -> float:
    """Return a number between 0 and 1; click's own range lets NaN pass."""
    number = float(text)
    if not 0 <= number <= 1:
        raise click.BadParameter(f"{number} is not within 0 and 1")
    return number


@click.group(no_args_is_help=False)
@click.version_option(__version__, message="%(version)s")
def commands() -> None:
    """Compare finished runs, choose the champion by evidence, and let it answer."""


@commands.command()
@click.argument("run_id")
@click.option(
    "--tolerance",
    type=fraction,
    default=0.01,
    show_default=True,
    help="Relative difference of a metric that passes.",
)
@click.option(
    "--checkout",
    is_flag=True,
    help="With the commit, the uncommitted changes and the libraries that it recorded, in a folder "
    "that is removed afterwards. This executes what the tracking store holds: trust it.",
)
def reproduce(run_id: str, tolerance: float, checkout: bool) -> None:
    """Train a finished run again, as a new run, and compare.

    Compares the weights and metrics of all epochs. Exit status: 0 bit-for-bit identical, 3 the
    same within tolerance, 4 different.
    """
    from fmnist.runs import checkout as checkouts
    from fmnist.runs import reproduce

    store = open_store()
    original = reproduce.find_original(run_id)
    if checkout:
        words = ["reproduce", run_id, "--tolerance", str(tolerance)]
        sys.exit(checkouts.run_fmnist(original, words, store.uri))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    answer = reproduce.reproduce(store, original, tolerance)
    if answer.differences:
        print(reproduce.as_table(answer))
    print(answer.words)
    sys.exit(answer.status)


@commands.command()
@click.option("--fix", is_flag=True, help="Fix what can be fixed.")
def doctor(fix: bool) -> None:
    """Find what is wrong with the store and the data, and fix it.

    Looks for runs whose process died, decisions and models left half made, stray artifacts, a
    store of another MLflow, and a damaged data set. Exit status 1 if anything is wrong.
    """
    from fmnist.cli import doctor

    if not doctor.run_checks(fix):
        sys.exit(1)


for command in (
    *(studies.compare, studies.list_studies, studies.open_ui),
    *(champion.promote, champion.history, champion.rollback, champion.predict, champion.serve),
):
    commands.add_command(command)
