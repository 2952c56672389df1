"""Time the tracked `train.py` beside the plain, untracked `stock_keras.py`, in turns.

    python bench/speed.py                  all variants, three times, and a sweep: an hour
    python bench/speed.py --quick          two variants, three epochs, once: two and a half minutes

Prints a table, and leaves speed.json and speed.png in outputs/speed/. `train.py` is given a
patience that early stopping does not reach; the stock script keeps its own, and where that cut a
run short, the epochs left out are added at the median of those that it ran.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from matplotlib.figure import Figure

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from fmnist.common.terminal import table  # noqa: E402

VARIANTS = ("relu", "batch_norm", "batch_norm_before", "selu", "selu_dropout", "selu_plain_dropout")
SIDES = ("stock", "tuned", "train.py")
WEIGHTS = 784 * 100 + 19 * 100 * 100 + 100 * 10
# A weight costs a multiplication and an addition forward, for its own gradient, and for that of
# the layer's input, which the first layer does not need.
GFLOP_PER_EPOCH = 55_000 * 2 * (3 * WEIGHTS - 784 * 100) / 1e9


def timed(command: list[str], **variables: str) -> tuple[str, float, float]:
    """Run a command; return its output, its seconds from start to exit and its peak in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} ended with status {process.returncode}:\n{output}")
    return output, seconds, usage.ru_maxrss / 1000


def stock(variant: str, epochs: int, *options: str) -> dict[str, Any]:
    """Run the stock script."""
    command = [sys.executable, "bench/stock_keras.py", variant, f"--epochs={epochs}", *options]
    output, seconds, peak = timed(command)
    return {**json.loads(output.splitlines()[-1]), "process_seconds": seconds, "peak_mb": peak}


def tracked(store: Path, *overrides: str) -> tuple[float, float]:
    """Run `train.py`; return its seconds from start to exit and its peak in MB."""
    command = [sys.executable, "train.py", *overrides, "callbacks.early_stopping.patience=99"]
    places = [f"hydra.{mode}.dir={store}/{time.time()}" for mode in ("run", "sweep")]
    _, seconds, peak = timed(command + places, MLFLOW_TRACKING_URI=f"sqlite:///{store}/mlflow.db")
    return seconds, peak


def ours(store: Path, variant: str, epochs: int) -> dict[str, Any]:
    """Run `train.py` once, and read from MLflow what it took."""
    seconds, peak = tracked(store, f"model={variant}", f"training.epochs={epochs}")
    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    [run] = client.search_runs(["1"], max_results=1)  # the latest
    history = client.get_metric_history(run.info.run_id, "epoch_seconds")
    return {
        "fit_seconds": run.data.metrics["fit_seconds"],
        "epoch_seconds": [point.value for point in history],
        "process_seconds": seconds,
        "peak_mb": peak,
    }


def matrix_peak() -> float:
    """Return the best GFLOP/s of a large product of float32 matrices, all cores."""
    size, best = 2048, 0.0
    matrix = np.ones((size, size), np.float32)
    for _ in range(10):
        started = time.perf_counter()
        matrix @ matrix
        best = max(best, 2 * size**3 / (time.perf_counter() - started) / 1e9)
    return best


def summary(run: dict[str, Any], epochs: int) -> dict[str, float]:
    """Reduce a run to its figures; an epoch is steady after the first, which compiles."""
    lost = (epochs - len(run["epoch_seconds"])) * statistics.median(run["epoch_seconds"][1:])
    return {
        "epoch_seconds": statistics.median(run["epoch_seconds"][1:]),
        "fit_seconds": run["fit_seconds"] + lost,
        "process_seconds": run["process_seconds"] + lost,
        "peak_mb": run["peak_mb"],
    }


def measure(variants: list[str], epochs: int, repeats: int, store: Path) -> dict[str, Any]:
    """Run all sides of each variant in turns; return figures[variant][side][figure] = values."""
    figures: dict[str, Any] = {v: {side: {} for side in SIDES} for v in variants}
    for repeat in range(repeats):
        for variant in variants:
            runs = {
                "stock": partial(stock, variant, epochs),
                "tuned": partial(stock, variant, epochs, "--tuned"),
                "train.py": partial(ours, store, variant, epochs),
            }
            for side, run in runs.items():
                figure = summary(run(), epochs)
                print(f"{repeat + 1}/{repeats}  {variant:<18}  {side:<8}  ", end="")
                print("  ".join(f"{k} {v:.2f}" for k, v in figure.items()), flush=True)
                for name, value in figure.items():
                    figures[variant][side].setdefault(name, []).append(value)
    return figures


def ratios(figures: dict[str, Any], peak: float) -> list[list[object]]:
    """Return the rows of the table: how often `train.py` fits into the other side's time."""
    rows: list[list[object]] = []
    for variant, sides in figures.items():
        middle = {s: {k: statistics.median(v) for k, v in f.items()} for s, f in sides.items()}
        our = middle["train.py"]

        def times(name: str, side: str = "stock", middle: Any = middle) -> str:
            return f"{middle[side][name] / middle['train.py'][name]:.1f}"

        seconds = sides["train.py"]["epoch_seconds"]
        rows.append(
            [
                variant,
                f"{our['epoch_seconds']:.2f} ({min(seconds):.2f}-{max(seconds):.2f})",
                times("epoch_seconds"),
                times("epoch_seconds", "tuned"),
                times("fit_seconds"),
                f"{our['process_seconds'] / middle['stock']['process_seconds']:.2f}",
                f"{our['peak_mb'] / middle['stock']['peak_mb']:.2f}",
                f"{GFLOP_PER_EPOCH / our['epoch_seconds'] / peak:.0%}",
            ]
        )
    return rows


COLUMNS = (
    "variant",
    "s an epoch (range)",
    "stock / ours: epoch",
    "tuned / ours: epoch",
    "stock / ours: fit",
    "process, of stock's",
    "memory, of stock's",
    "of matrix peak",
)


def picture(figures: dict[str, Any]) -> Figure:
    """Draw whole processes, and steady epochs, of all sides."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    names = {"process_seconds": "start to exit, seconds", "epoch_seconds": "an epoch, seconds"}
    colours = ("#999999", "#56b4e9", "#d55e00")  # Okabe and Ito's, safe for the colour-blind
    labels = {"stock": "stock Keras, untracked", "tuned": "the same, tuned", "train.py": "train.py"}
    for axes, (name, label) in zip(figure.subplots(1, 2), names.items(), strict=True):
        for place, (side, colour) in enumerate(zip(SIDES, colours, strict=True)):
            values = [f[side][name] for f in figures.values()]
            middle = np.array([statistics.median(v) for v in values])
            error = [middle - [min(v) for v in values], [max(v) for v in values] - middle]
            at = np.arange(len(values)) + (1 - place) * 0.27
            axes.barh(at, middle, 0.25, xerr=error, color=colour, label=labels[side])
        axes.set_yticks(range(len(figures)), list(figures))
        axes.set_xlabel(label)
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
    handles, texts = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper center", ncols=3, frameon=False)
    return figure


def main() -> None:
    """Measure, print, draw."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--quick", action="store_true", help="for a first idea")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--epochs", type=int, default=10, help="of each run (10)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side (3)")
    parser.add_argument("--no-sweep", action="store_true", help="leave out 6 variants x 3 seeds")
    options = parser.parse_args()
    if options.quick:
        options.variants, options.epochs, options.repeats = ["relu", "batch_norm"], 3, 1
    peak = matrix_peak()
    print(f"matrix peak of this machine: {peak:.0f} GFLOP/s; an epoch: {GFLOP_PER_EPOCH:.1f} GFLOP")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        tracked(store, "data=digits", "training.epochs=1")  # sets up the store
        figures = measure(list(options.variants), options.epochs, options.repeats, store)
        sweep = None
        if not options.quick and not options.no_sweep:
            models = f"model={','.join(options.variants)}"
            sweep, _ = tracked(
                store, "-m", models, "seed=1,2,3", f"training.epochs={options.epochs}"
            )
    print("\n" + table(COLUMNS, ratios(figures, peak)))
    if sweep:
        scripts = 3 * sum(
            statistics.median(f["stock"]["process_seconds"]) for f in figures.values()
        )
        print(
            f"\n{len(figures)} variants x 3 seeds: one sweep {sweep:.0f} s, "
            f"{3 * len(figures)} stock scripts {scripts:.0f} s, {scripts / sweep:.1f} times as long"
        )
    output = PROJECT / "outputs" / "speed"
    output.mkdir(parents=True, exist_ok=True)
    result = {"matrix_peak_gflops": peak, "sweep_seconds": sweep, "figures": figures}
    (output / "speed.json").write_text(json.dumps(result, indent=1))
    picture(figures).savefig(output / "speed.png", dpi=110)
    print(f"\n{output}/speed.json and speed.png")


if __name__ == "__main__":
    main()
