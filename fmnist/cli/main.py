"""Commands on finished runs: `python -m fmnist compare`; options: `--help`."""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from fmnist.common.errors import ConfigError, one_line


class Parser(argparse.ArgumentParser):
    """A parser, also of subcommands, whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """End the program."""
        self.exit(2, f"error: {one_line(ConfigError(message))}; --help tells what there is\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command."""
    parser = Parser(prog="python -m fmnist", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_compare(commands.add_parser("compare", help="compare variants over seeds"))
    add_studies(commands.add_parser("studies", help="list the studies of the experiment"))
    add_ui(commands.add_parser("ui", help="open MLflow's UI at the experiment"))
    add_promote(commands.add_parser("promote", help="let the evidence choose the champion"))
    add_history(commands.add_parser("history", help="print the line of champions"))
    add_rollback(commands.add_parser("rollback", help="restore an earlier champion"))
    add_predict(commands.add_parser("predict", help="ask the champion what images show"))
    add_serve(commands.add_parser("serve", help="serve the champion over HTTP"))
    add_reproduce(commands.add_parser("reproduce", help="train a run again and compare"))
    add_doctor(commands.add_parser("doctor", help="find what is wrong, and mend it"))
    options = parser.parse_args(arguments)
    options.command(options)


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Add the option that all commands have."""
    parser.add_argument("--experiment", default="fmnist", help="MLflow experiment (%(default)s)")


def port(text: str) -> int:
    """Return a port that can be listened on."""
    number = int(text)
    if not 0 < number < 2**16:
        raise argparse.ArgumentTypeError(f"{number} is not within 1 and {2**16 - 1}")
    return number


def fraction(text: str) -> float:
    """Return a number between 0 and 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{number} is not within 0 and 1")
    return number


def add_port(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that open MLflow's UI."""
    parser.add_argument("--port", type=port, default=5000, help="of MLflow's UI (%(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")


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
    add_experiment(parser)
    parser.add_argument("--by", metavar="PARAM,…", help="params that make the variants (model)")
    parser.add_argument("--metric", help="best_val_accuracy or last_val_accuracy decides")
    parser.add_argument("--baseline", metavar="VARIANT", help="compare the others with this one")
    parser.add_argument("--min-effect", type=float, help="difference that matters (0.005)")
    parser.add_argument("--allow", default="", metavar="KEY,…", help="runs may differ in these")
    formats = ("terminal", "markdown", "json", "html")
    parser.add_argument("--format", choices=formats, default=formats[0], help="(%(default)s)")
    parser.add_argument("--open", action="store_true", help="then open the runs in MLflow's UI")
    add_port(parser)


def compare(options: argparse.Namespace) -> None:
    """Print a comparison."""
    from fmnist.cli import ui
    from fmnist.evidence.comparison import StudyDesign, compare_variants
    from fmnist.reports import comparison_report
    from fmnist.tracking import artifacts, studies
    from fmnist.tracking.store import existing_store

    store = existing_store(None if options.study else options.experiment)
    if options.runs or options.filter:
        statement, runs = StudyDesign(), studies.runs_of(store, options.filter)
    else:
        store, statement, runs = studies.load(store, options.study or studies.latest(store))
    asked = {
        "metric": options.metric,
        "by": tuple(options.by.split(",")) if options.by else None,
        "baseline": options.baseline,
        "min_effect": options.min_effect,
    }
    answer = compare_variants(
        runs, statement.with_overrides(**asked), allow=options.allow.split(",")
    )
    healths = artifacts.health(answer)
    if options.format == "html":
        print(comparison_report.html(answer, healths, studies.pictures(answer, healths)))
    elif options.format == "json":
        print(comparison_report.as_json(answer, healths))
    elif options.format == "markdown":
        print(comparison_report.markdown(answer, healths))
    else:
        comparison_report.show(answer, healths)
    if options.open:
        run_ids = [run_id for variant in answer.variants for run_id in variant.run_ids.values()]
        ui.show(store, ui.compare_page(store, run_ids), options.port, not options.no_browser)


def add_studies(parser: argparse.ArgumentParser) -> None:
    """Add the options of `studies`."""
    parser.description = "List the studies of the experiment, the latest last."
    parser.set_defaults(command=studies)
    add_experiment(parser)


def studies(options: argparse.Namespace) -> None:
    """Print a table of the studies."""
    from fmnist.common.terminal import table
    from fmnist.tracking import studies
    from fmnist.tracking.store import existing_store

    found = studies.studies(existing_store(options.experiment))
    print(table(["STUDY", "name", "begun", "status", "question"], found))


def add_ui(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ui`."""
    parser.description = "Open MLflow's UI on the store, at the runs of the experiment."
    parser.set_defaults(command=open_ui)
    add_experiment(parser)
    add_port(parser)


def open_ui(options: argparse.Namespace) -> None:
    """Open the experiment in the browser."""
    from fmnist.cli import ui
    from fmnist.tracking.store import existing_store

    store = existing_store(options.experiment)
    ui.show(store, ui.experiment_page(store), options.port, not options.no_browser)


def add_promote(parser: argparse.ArgumentParser) -> None:
    """Add the options of `promote`."""
    parser.description = (
        "Weigh a study's best variant against the champion's (without a champion: against the "
        "study's baseline), register its best run's model, and make it the champion if the "
        "evidence says so. Without STUDY: the latest."
    )
    parser.set_defaults(command=promote)
    parser.add_argument("study", nargs="?", metavar="STUDY", help="run id of a study's parent run")
    add_experiment(parser)
    parser.add_argument("--dry-run", action="store_true", help="show it all and change nothing")
    without = "without evidence, where there is no champion to compare with"
    parser.add_argument("--first", action="store_true", help=without)
    for rule, meaning in {
        "min-effect": "by which the mean must be higher at least, a fraction",
        "alpha": "the largest corrected p-value that is evidence",
        "max-class-drop": "by which the model may be worse on any class, a fraction",
    }.items():
        parser.add_argument(f"--{rule}", type=float, help=f"{meaning} (conf/train.yaml)")


def promote(options: argparse.Namespace) -> None:
    """Decide on the champion; a refused model is an error."""
    from fmnist.config import schema
    from fmnist.registry import promotion
    from fmnist.tracking import studies
    from fmnist.tracking.store import existing_store

    criteria = schema.promotion(
        min_effect=options.min_effect, alpha=options.alpha, max_class_drop=options.max_class_drop
    )
    store = existing_store(None if options.study else options.experiment)
    asked = options.study or studies.latest(store)
    first, dry_run = options.first, options.dry_run
    decision = promotion.promote(store, asked, criteria, first=first, dry_run=dry_run)
    promotion.show(store, decision)


def add_history(parser: argparse.ArgumentParser) -> None:
    """Add the options of `history`."""
    parser.description = "Print the line of champions, the present one last, with the reasons."
    parser.set_defaults(command=history)
    parser.add_argument("--all", action="store_true", help="decisions that changed nothing, too")


def history(options: argparse.Namespace) -> None:
    """Print the line of champions."""
    from fmnist.registry import decision_log
    from fmnist.tracking.store import existing_store

    existing_store(None)
    decisions = decision_log.all_decisions()
    print(decision_log.as_table(decisions if options.all else decision_log.changes(decisions)))


def add_rollback(parser: argparse.ArgumentParser) -> None:
    """Add the options of `rollback`."""
    parser.description = (
        "Make an earlier champion the champion again, as a decision of its own. Its model is "
        "examined as in a promotion; nothing is weighed."
    )
    parser.set_defaults(command=roll_back)
    parser.add_argument(
        "--to",
        type=int,
        metavar="VERSION",
        help="one that was the champion; else the last one before this",
    )
    parser.add_argument("--reason", default="no reason was given", help="in words")


def roll_back(options: argparse.Namespace) -> None:
    """Restore an earlier champion; a refused model is an error."""
    from fmnist.registry import promotion, rollback
    from fmnist.tracking.store import existing_store

    store = existing_store(None)
    promotion.show(store, rollback.rollback(store, options.to, options.reason))


def add_predict(parser: argparse.ArgumentParser) -> None:
    """Add the options of `predict`."""
    parser.description = (
        "Ask the champion what images show. Photographs of one article before a plain background "
        "are made like the data set: trimmed, shrunk, sharpened, centred, grey, bright on black."
    )
    parser.set_defaults(command=predict)
    what = "PNG, JPEG or .npy file, a folder of these, or - for standard input"
    parser.add_argument("images", nargs="+", metavar="IMAGE", help=what)
    parser.add_argument("--json", action="store_true", help="all probabilities, as JSON")
    shown = "draw what the model saw beside its answers, and open the picture"
    parser.add_argument("--show", action="store_true", help=shown)
    parser.add_argument("--no-browser", action="store_true", help="only print where the picture is")


def predict(options: argparse.Namespace) -> None:
    """Print what the champion says; files that are no images are told last, as an error."""
    from fmnist.cli import ui
    from fmnist.common.errors import ImageError
    from fmnist.inference import predict
    from fmnist.tracking.store import existing_store

    existing_store(None)
    said = predict.ask(options.images)
    if said.answers:
        print(predict.as_json(said) if options.json else predict.as_table(said))
    if said.answers and options.show:
        ui.run_checks(predict.draw(said).as_uri(), not options.no_browser)
    if said.problems:
        raise ImageError("; ".join(said.problems))


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve`."""
    parser.description = "Serve the champion over HTTP, by MLflow's scoring server."
    parser.set_defaults(command=serve)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=5001, help="(%(default)s)")


def serve(options: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    from fmnist.inference import server
    from fmnist.tracking.store import existing_store

    existing_store(None)
    server.serve(options.host, options.port)


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    """Add the options of `reproduce`."""
    parser.description = (
        "Train a finished run again, as a new run, and compare the weights and metrics of all "
        "epochs. Exit status: 0 bit-for-bit identical, 3 the same within tolerance, 4 different."
    )
    parser.set_defaults(command=reproduce)
    parser.add_argument("run_id", metavar="RUN_ID", help="of the run")
    allowed = "relative difference of a metric that passes (%(default)s)"
    parser.add_argument("--tolerance", type=fraction, default=0.01, help=allowed)
    there = (
        "with the commit, the uncommitted changes and the libraries that it recorded, in a folder "
        "that is removed afterwards. This executes what the tracking store holds: trust it"
    )
    parser.add_argument("--checkout", action="store_true", help=there)


def reproduce(options: argparse.Namespace) -> None:
    """Print the differences, the training and the verdict, which is the exit status, too."""
    from fmnist.runs import checkout, reproduce
    from fmnist.tracking.store import existing_store

    store = existing_store(None)
    original = reproduce.find_original(options.run_id)
    if options.checkout:
        arguments = ["reproduce", options.run_id, "--tolerance", str(options.tolerance)]
        sys.exit(checkout.run_fmnist(original, arguments, store.uri))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    answer = reproduce.reproduce(store, original, options.tolerance)
    if answer.differences:
        print(reproduce.as_table(answer))
    print(answer.words)
    sys.exit(answer.status)


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the options of `doctor`."""
    parser.description = (
        "Look for runs whose process died, decisions and models left half made, stray artifacts, "
        "a store of another MLflow, and a damaged data set. Exit status 1 if anything is wrong."
    )
    parser.set_defaults(command=doctor)
    parser.add_argument("--fix", action="store_true", help="mend what can be mended")


def doctor(options: argparse.Namespace) -> None:
    """Print what is wrong; the exit status says whether anything is left."""
    from fmnist.cli import doctor

    if not doctor.run_checks(options.fix):
        sys.exit(1)
