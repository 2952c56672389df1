"""The pictures of a comparison: each function takes data and returns a matplotlib `Figure`."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fmnist.evidence.comparison import Comparison
from fmnist.evidence.layer_health import QUANTITIES, STAGES, stages
from fmnist.evidence.statistics import Estimate, mean_interval
from fmnist.reports.layer_health_maps import SCALES
from fmnist.reports.verdicts import verdict

# Okabe and Ito's colour-blind safe colours, without the yellow, which white paper swallows.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def colours(comparison: Comparison) -> dict[str, str]:
    """Give each variant its colour in all pictures; the baseline is black."""
    names = [variant.name for variant in comparison.variants]
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}


def curves(
    histories: Mapping[str, Mapping[str, NDArray[np.floating]]], colour: Mapping[str, str]
) -> Figure:
    """Draw loss and accuracy on validation over the epochs: the mean of the seeds and its interval.

    Args:
        histories: for each variant `val_loss` and `val_accuracy` (seeds, epochs); an epoch that a
            seed did not reach is NaN.
        colour: of each variant.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("val_loss", "val_accuracy"), strict=True):
        for name, history in histories.items():
            by_epoch = [column[~np.isnan(column)] for column in history[metric].T]
            estimates = [mean_interval(values) for values in by_epoch]
            epochs = range(1, len(estimates) + 1)
            axes.plot(epochs, [e.mean for e in estimates], color=colour[name], label=name)
            bounds = [e.low for e in estimates], [e.high for e in estimates]
            axes.fill_between(epochs, *bounds, color=colour[name], alpha=0.15, linewidth=0)
        every = np.concatenate([history[metric].ravel() for history in histories.values()])
        low, high = np.nanmin(every), np.nanmax(every)
        space = 0.05 * (high - low) or 0.01  # intervals of few seeds go beyond what a metric can be
        axes.set(xlabel="epoch", ylabel=metric, ylim=(low - space, high + space))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.suptitle("Mean over the seeds, with its 95 % interval")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def seeds(comparison: Comparison) -> Figure:
    """Draw every seed as a dot, and the mean with its interval; the best variant on top."""
    shown = [variant for variant in comparison.variants if variant.values]
    shown.sort(key=lambda variant: variant.estimate.mean)
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(shown)), layout="constrained")
    axes = figure.subplots()
    colour = colours(comparison)
    for row, variant in enumerate(shown):
        values = 100 * np.array(list(variant.values.values()))
        axes.plot(values, [row] * len(values), "o", color=colour[variant.name], alpha=0.4)
        _interval(axes, row, variant.estimate, colour[variant.name])
    axes.set_yticks(range(len(shown)), [variant.name for variant in shown])
    axes.set_xlabel(f"{comparison.design.metric}, %: each seed, mean and 95 % interval")
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.grid(axis="x", alpha=0.3)
    return figure


def forest(comparison: Comparison) -> Figure:
    """Draw the paired differences from the baseline, the least that matters, and the verdicts."""
    baseline, *others = comparison.variants
    shown = [v for v in others if v.difference and v.difference.estimate.n > 1]
    figure = Figure(figsize=(9, 1.5 + 0.5 * len(shown)), layout="constrained")
    axes = figure.subplots()
    margin = 100 * comparison.design.min_effect
    axes.axvspan(-margin, margin, color="#999999", alpha=0.2, linewidth=0)
    axes.axvline(0, color="black", linewidth=1)
    verdicts, colour = [], colours(comparison)
    for row, variant in enumerate(reversed(shown)):
        assert variant.difference is not None
        _interval(axes, row, variant.difference.estimate, colour[variant.name])
        verdicts.append(verdict(comparison, variant))
    axes.set_yticks(range(len(shown)), [variant.name for variant in reversed(shown)])
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(shown)), verdicts)
    right.tick_params(length=0)
    axes.set_xlabel(
        f"{comparison.design.metric} minus that of {baseline.name}, points; "
        "grey: too small to matter"
    )
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.grid(axis="x", alpha=0.3)
    return figure


def layer_profiles(healths: Mapping[str, NDArray[np.float64]], colour: Mapping[str, str]) -> Figure:
    """Draw gradient, activations and dead units from layer to layer, at first and later.

    Args:
        healths: of each variant (seeds, epochs + 1, layers, quantities); drawn are the medians
            over the seeds, and the seeds' range.
        colour: of each variant.
    """
    quantities = ("gradient_norm", "activation_std", "dead_units")
    figure = Figure(figsize=(13, 8), layout="constrained")
    grid = figure.subplots(len(quantities), len(STAGES), sharex=True, sharey="row")
    for row, quantity in zip(grid, quantities, strict=True):
        row[0].set_ylabel(SCALES[quantity].title)
        if SCALES[quantity].logarithmic:
            row[0].set_yscale("log")
        for name, health in healths.items():
            for axes, values in zip(row, stages(health).values(), strict=True):
                shown = values[..., QUANTITIES.index(quantity)]
                layers = range(1, shown.shape[1] + 1)
                axes.plot(layers, np.nanmedian(shown, axis=0), color=colour[name], label=name)
                bounds = np.nanmin(shown, axis=0), np.nanmax(shown, axis=0)
                axes.fill_between(layers, *bounds, color=colour[name], alpha=0.12, linewidth=0)
    for axes in grid.flat:
        axes.grid(alpha=0.3)
    for axes, stage in zip(grid[0], STAGES, strict=True):
        axes.set_title(stage)
    for axes in grid[-1]:
        axes.set_xlabel("layer, from the input")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def _interval(axes: Axes, row: int, estimate: Estimate, colour: str) -> None:
    """Draw a mean (a fraction) as a diamond and its interval as a line, in percent."""
    if not math.isnan(estimate.low):
        axes.plot([100 * estimate.low, 100 * estimate.high], [row, row], color=colour, linewidth=2)
    axes.plot([100 * estimate.mean], [row], "D", color=colour, markersize=7)
