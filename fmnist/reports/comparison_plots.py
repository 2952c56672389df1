"""Pictures of a comparison; each function takes data and returns a matplotlib `Figure`."""

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator
from numpy.typing import NDArray

from fmnist.evidence.comparison import Comparison
from fmnist.evidence.layer_health import QUANTITIES, STAGES, Health, stages
from fmnist.evidence.statistics import Estimate, mean_interval
from fmnist.reports.layer_health_maps import SCALES
from fmnist.reports.palette import BLACK, SERIES
from fmnist.reports.verdicts import verdict

PROFILES = ("gradient_norm", "activation_std", "dead_units")  # quantities that are drawn by layer


def colours(comparison: Comparison) -> dict[str, str]:
    """Return the colour of each variant in all pictures; the baseline is black."""
    names = [variant.name for variant in comparison.variants]
    return {name: SERIES[index % len(SERIES)] for index, name in enumerate(names)}


def curves(
    histories: Mapping[str, Mapping[str, NDArray[np.floating]]], colour: Mapping[str, str]
) -> Figure:
    """Draw `val_loss` and `val_accuracy` of each variant: mean of the seeds with its interval.

    They are shaped (seeds, epochs); NaN stands after the last epoch of a seed.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("val_loss", "val_accuracy"), strict=True):
        for name, history in histories.items():
            _draw_curve(axes, history[metric], colour[name])
        values = np.concatenate([history[metric].ravel() for history in histories.values()])
        low, high = np.nanmin(values), np.nanmax(values)
        space = 0.05 * (high - low) or 0.01  # intervals of few seeds exceed the metric's limits
        axes.set(xlabel="epoch", ylabel=metric, ylim=(low - space, high + space))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.suptitle("Mean over the seeds, with its 95 % interval")
    _add_legend(figure, histories)
    return figure


def seeds(comparison: Comparison) -> Figure:
    """Draw every seed as a dot, and the mean with its interval; the best variant on top."""
    finished = [variant for variant in comparison.variants if variant.values]
    shown = sorted(finished, key=lambda variant: variant.estimate.mean)
    figure, axes = _intervals(comparison, {v.name: v.estimate for v in shown})
    colour = colours(comparison)
    for row, variant in enumerate(shown):
        values = 100 * np.array(list(variant.values.values()))
        axes.plot(values, [row] * len(values), "o", color=colour[variant.name], alpha=0.4)
    axes.set_xlabel(f"{comparison.design.metric}, %: each seed, mean and 95 % interval")
    return figure


def forest(comparison: Comparison) -> Figure:
    """Draw the paired differences from the baseline, the least that matters, and the verdicts."""
    baseline, *others = comparison.variants
    shown = [v for v in reversed(others) if v.difference and v.difference.estimate.n > 1]
    differences = {v.name: v.difference.estimate for v in shown if v.difference}
    figure, axes = _intervals(comparison, differences)
    margin = 100 * comparison.design.min_effect
    axes.axvspan(-margin, margin, color="#999999", alpha=0.2, linewidth=0)
    axes.axvline(0, color=BLACK, linewidth=1)
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(shown)), [verdict(comparison, variant) for variant in shown])
    right.tick_params(length=0)
    axes.set_xlabel(
        f"{comparison.design.metric} minus that of {baseline.name}, points; "
        "grey: too small to matter"
    )
    return figure


def layer_profiles(healths: Mapping[str, Health], colour: Mapping[str, str]) -> Figure:
    """Draw the `PROFILES` by layer at each stage of the training: median and range of the seeds."""
    figure = Figure(figsize=(13, 8), layout="constrained")
    grid = figure.subplots(len(PROFILES), len(STAGES), sharex=True, sharey="row")
    for row, quantity in zip(grid, PROFILES, strict=True):
        row[0].set_ylabel(SCALES[quantity].title)
        if SCALES[quantity].logarithmic:
            row[0].set_yscale("log")
            row[0].yaxis.set_major_formatter(LogFormatter())  # the default one writes formulas
            row[0].yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
        for name, health in healths.items():
            for axes, layers in zip(row, stages(health).values(), strict=True):
                _draw_profile(axes, layers[..., QUANTITIES.index(quantity)], colour[name])
    for axes in grid.flat:
        axes.grid(alpha=0.3)
    for axes, stage in zip(grid[0], STAGES, strict=True):
        axes.set_title(stage)
    for axes in grid[-1]:
        axes.set_xlabel("layer, from the input")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _add_legend(figure, healths)
    return figure


def _draw_curve(axes: Axes, values: NDArray[np.floating], colour: str) -> None:
    """Draw the mean of values (seeds, epochs) with its interval."""
    estimates = [mean_interval(column[~np.isnan(column)]) for column in values.T]
    epochs = range(1, len(estimates) + 1)
    axes.plot(epochs, [e.mean for e in estimates], color=colour)
    bounds = [e.low for e in estimates], [e.high for e in estimates]
    axes.fill_between(epochs, *bounds, color=colour, alpha=0.15, linewidth=0)


def _draw_profile(axes: Axes, values: NDArray[np.floating], colour: str) -> None:
    """Draw the median of values (seeds, layers) with their range."""
    layers = range(1, values.shape[1] + 1)
    axes.plot(layers, np.nanmedian(values, axis=0), color=colour)
    bounds = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    axes.fill_between(layers, *bounds, color=colour, alpha=0.12, linewidth=0)


def _intervals(comparison: Comparison, estimates: Mapping[str, Estimate]) -> tuple[Figure, Axes]:
    """Draw a row for each variant, in percent: its mean as a diamond, its interval as a line."""
    figure = Figure(figsize=(9, 1.5 + 0.5 * len(estimates)), layout="constrained")
    axes = figure.subplots()
    for row, (name, estimate) in enumerate(estimates.items()):
        low, mean, high = 100 * np.array([estimate.low, estimate.mean, estimate.high])
        colour = colours(comparison)[name]
        axes.plot([low, high], [row, row], color=colour, linewidth=2)  # nothing where it is NaN
        axes.plot([mean], [row], "D", color=colour, markersize=7)
    axes.set_yticks(range(len(estimates)), list(estimates))
    axes.set_ylim(-0.6, len(estimates) - 0.4)
    axes.grid(axis="x", alpha=0.3)
    return figure, axes


def _add_legend(figure: Figure, names: Iterable[str]) -> None:
    """Name the lines of the first axes by hand: Matplotlib itself leaves out `_name`."""
    lines = figure.axes[0].get_lines()
    figure.legend(lines, list(names), loc="outside right center", frameon=False)
