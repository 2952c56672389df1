"""Commands on finished runs: `python -m fmnist compare`; options: `--help`."""

import argparse
from collections.abc import Sequence

from fmnist.errors import one_line_errors


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m fmnist", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_compare(commands.add_parser("compare", help="compare variants over seeds"))
    options = parser.parse_args(arguments)
    options.command(options)


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add the options of `compare`."""
    parser.description = (
        "Compare variants over seeds: means with intervals, and paired differences from a baseline "
        "with a verdict. Without STUDY, --runs or --filter: the latest study."
    )
    parser.set_defaults(command=compare)
    picked = parser.add_mutually_exclusive_group()
    picked.add_argument("study", nargs="?", metavar="STUDY", help="run id of a study's parent run")
    picked.add_argument("--runs", action="store_true", help="all runs of the experiment instead")
    picked.add_argument("--filter", metavar="F", help="runs of the experiment: params.model='relu'")
    parser.add_argument("--experiment", default="fmnist", help="MLflow experiment (%(default)s)")
    parser.add_argument("--by", metavar="PARAM,…", help="params that make the variants (model)")
    parser.add_argument("--metric", help="best_val_accuracy or last_val_accuracy decides")
    parser.add_argument("--baseline", metavar="VARIANT", help="compare the others with this one")
    parser.add_argument("--min-effect", type=float, help="difference that matters (0.005)")
    parser.add_argument("--allow", default="", metavar="KEY,…", help="runs may differ in these")
    parser.add_argument("--format", choices=("markdown", "json", "html"), default="markdown")


def compare(options: argparse.Namespace) -> None:
    """Print a comparison."""
    from fmnist import report, study
    from fmnist.comparison import Statement, comparison
    from fmnist.store import existing_store

    store = existing_store(None if options.study else options.experiment)
    if options.runs or options.filter:
        statement, runs = Statement(), study.runs_of(store, options.filter)
    else:
        statement, runs = study.load(store, options.study or study.latest(store))
    asked = {
        "metric": options.metric,
        "by": tuple(options.by.split(",")) if options.by else None,
        "baseline": options.baseline,
        "min_effect": options.min_effect,
    }
    answer = comparison(runs, statement.asking(**asked), allow=options.allow.split(","))
    if options.format == "html":
        print(report.html(answer, study.pictures(answer)))
    else:
        print({"markdown": report.markdown, "json": report.as_json}[options.format](answer))


if __name__ == "__main__":
    with one_line_errors():
        main()
