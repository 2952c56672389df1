"""Prove comparisons and promotions by simulation: coverage, false alarms, power.

    python bench/evidence.py                 2,000 simulated studies, 500 a point of power, 1,000
                                             promotions: two minutes
    python bench/evidence.py --studies 200   for a first idea

A study has six variants and five seeds, as `experiment=tutorial`. Accuracies are drawn with the
spread of the real study: what a seed does to all variants alike, and to each alone.
Prints the figures, and writes evidence.json and evidence.png to outputs/evidence/.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from fmnist.common.terminal import table  # noqa: E402
from fmnist.config.schema import Promotion, promotion  # noqa: E402
from fmnist.evidence.statistics import Verdict, compare_paired, mean_interval, power  # noqa: E402
from fmnist.registry.decision import beats  # noqa: E402
from fmnist.reports.palette import BLUE, GREEN, PINK, VERMILION  # noqa: E402

VARIANTS, SEEDS, MARGIN = 6, 5, 0.005
SEED_STD, RUN_STD = 0.001, 0.0035  # of what a seed does to all variants, of each run
SPREAD = RUN_STD * 2**0.5  # standard deviation of a paired difference
PROMOTED_EFFECT = 0.01
EFFECTS = (0.0, 0.005, 0.01, 0.015, 0.02, 0.03)
SEED_COUNTS = {3: BLUE, 5: VERMILION, 10: GREEN, 20: PINK}  # with their colours


def accuracies(draw: np.random.Generator, seeds: int, effect: float = 0.0) -> NDArray[np.float64]:
    """Draw the accuracies (variants, seeds) of a study; the last variant is better by `effect`.

    They are rounded to counts of 5,000 validation images, as real ones are.
    """
    true = 0.87 + draw.normal(0, SEED_STD, seeds) + draw.normal(0, RUN_STD, (VARIANTS, seeds))
    true[-1] += effect
    return (5000 * true).round() / 5000


def verdicts(values: NDArray[np.float64]) -> list[Verdict]:
    """Compare all variants with the first."""
    return [d.verdict for d in compare_paired(list(values[1:] - values[0]), MARGIN)]


def promotions(draw: np.random.Generator, number: int) -> list[dict[str, str | int]]:
    """Return how often a promotion changes the champion, by variants and seeds; rows of a table.

    The first variant is the champion's; all are equal, or the last is better by `PROMOTED_EFFECT`.
    """
    criteria, rows = promotion(), []
    for variants in (2, VARIANTS):
        for seeds in (3, 5, 10):
            changed = {}
            for effect in (0.0, PROMOTED_EFFECT):
                studies = [accuracies(draw, seeds, effect)[-variants:] for _ in range(number)]
                winners = [winner(values, criteria) for values in studies]
                changed[effect] = sum(w == variants - 1 if effect else w > 0 for w in winners)
            rows.append(
                {
                    "variants": variants,
                    "seeds": seeds,
                    "all equal: champion changes": f"{changed[0.0] / number:.1%}",
                    "one is a point better: it becomes champion": (
                        f"{changed[PROMOTED_EFFECT] / number:.1%}"
                    ),
                }
            )
    return rows


def winner(values: NDArray[np.float64], criteria: Promotion) -> int:
    """Return which variant the champion has after a promotion; before, it is the first."""
    differences = compare_paired(list(values[1:] - values[0]), criteria.min_effect)
    best = int(values.mean(axis=1).argmax())
    return best if best and beats(differences[best - 1], criteria) else 0


def coverage(draw: np.random.Generator, studies: int) -> float:
    """Return how often the interval of one variant covers its true mean."""
    covered = 0
    for _ in range(studies):
        estimate = mean_interval(accuracies(draw, SEEDS)[0])
        covered += estimate.low <= 0.87 <= estimate.high
    return covered / studies


def verdict_shares(
    draw: np.random.Generator, studies: int, seeds: int, effect: float
) -> dict[str, float]:
    """Return how often each verdict is on the last variant, and "better" on any equal one."""
    counts = dict.fromkeys(Verdict, 0)
    alarms = 0
    for _ in range(studies):
        *equal, last = verdicts(accuracies(draw, seeds, effect))
        counts[last] += 1
        alarms += Verdict.better in (equal if effect else [*equal, last])
    shares = {str(verdict): count / studies for verdict, count in counts.items()}
    return shares | {"any equal variant called better": alarms / studies}


def picture(shares: dict[int, dict[float, dict[str, float]]]) -> Figure:
    """Draw how often a true difference is found, simulated and by the formula."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    effects = np.linspace(1e-6, max(EFFECTS), 100)
    for seeds, by_effect in shares.items():
        colour = SEED_COUNTS[seeds]
        simulated = [by_effect[effect][Verdict.better] for effect in EFFECTS]
        axes.plot(100 * np.array(EFFECTS), simulated, "o", color=colour, label=f"{seeds} seeds")
        formula = [power(effect, SPREAD, seeds, VARIANTS - 1) for effect in effects]
        axes.plot(100 * effects, formula, color=colour)
    axes.axhline(0.8, color="grey", linestyle="--")
    axes.set(
        xlabel="true difference, percentage points",
        ylabel="share of studies that find it",
        title="Dots: simulated studies. Lines: what seeds_needed plans with",
    )
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def simulate(studies: int) -> dict[str, Any]:
    """Simulate studies and promotions, and print what comes out."""
    draw = np.random.default_rng(1)
    covered = coverage(draw, studies)
    print(f"in {covered:.1%} of {studies} studies of {SEEDS} seeds the interval covers the mean")
    equal = verdict_shares(draw, studies, SEEDS, 0.0)
    alarms = equal["any equal variant called better"]
    print(f"of {VARIANTS} equal variants any is called better in {alarms:.1%}")
    shares = {}
    for seeds in SEED_COUNTS:
        shares[seeds] = {e: verdict_shares(draw, studies // 4, seeds, e) for e in EFFECTS}
        better = [f"{100 * e:g}: {s[Verdict.better]:.0%}" for e, s in shares[seeds].items()]
        print(f"{seeds:>2} seeds, points of true difference: called better   {'  '.join(better)}")
    changes = promotions(draw, studies // 2)
    rows = [list(row.values()) for row in changes]
    print(f"\n{studies // 2} promotions each:\n\n{table(list(changes[0]), rows)}")
    return {
        "coverage": covered,
        "false_alarms": alarms,
        "verdicts": shares,
        "promotions": changes,
    }


def main() -> None:
    """Simulate, print, draw."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument(
        "--studies",
        type=int,
        default=2000,
        help="for coverage and false alarms; a quarter for a point of power (2000)",
    )
    result = simulate(parser.parse_args().studies)
    output = PROJECT / "outputs" / "evidence"
    output.mkdir(parents=True, exist_ok=True)
    (output / "evidence.json").write_text(json.dumps(result, indent=1))
    picture(result["verdicts"]).savefig(output / "evidence.png", dpi=110)
    print(f"\n{output}/evidence.json and evidence.png")


if __name__ == "__main__":
    main()
