"""What the health of the layers says about a variant, in sentences and as a table."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

QUANTITIES = ("gradient_norm", "update_ratio", "activation_mean", "activation_std", "dead_units")
"""What is measured of a layer, in the order of all tables."""

TABLE = "layer_health.json"
"""The artifact in which a run keeps it: epoch, layer and the quantities."""

Health = NDArray[np.float64]
"""Of a variant (seeds, epochs + 1, layers, quantities); NaN after a seed's last epoch."""

STAGES = ("before training", "after epoch 1", "at the end")
COLUMNS = ("layer health", "when", "gradient norm", "first / last", "activation std", "dead units")
NOTE = (
    "Layer health: on fixed training images, medians over the seeds; gradients are those of the "
    "weights; first / last and dead units are of the hidden layers."
)

THRESHOLD = 10.0  # ratios from here on are reported


def stages(health: Health) -> dict[str, Health]:
    """Return the layers (seeds, layers, quantities) at each of `STAGES`; each seed's own end."""
    ends = np.isfinite(health).any(axis=(2, 3)).sum(axis=1) - 1
    last = health[np.arange(len(health)), ends]
    return dict(zip(STAGES, (health[:, 0], health[:, 1], last), strict=True))


def rows(healths: Mapping[str, Health]) -> list[list[str]]:
    """Return the rows to `COLUMNS` for all variants at all stages."""
    return [
        [name, stage, *_cells(layers)]
        for name, health in healths.items()
        for stage, layers in stages(health).items()
    ]


def sentences(healths: Mapping[str, Health]) -> list[str]:
    """Say of each variant how signal and gradient change from layer to layer, stage by stage."""
    texts = []
    for name, health in healths.items():
        whens: dict[str, list[str]] = {}
        for stage, layers in stages(health).items():
            whens.setdefault(_description(layers, stage), []).append(stage)
        parts = [f"{' and '.join(when)}, {description}" for description, when in whens.items()]
        texts.append(f"{name}: {'; '.join(parts)}.")
    return texts


def _cells(layers: Health) -> list[str]:
    signal = _first_and_last(layers, "activation_std")
    dead = np.nanmedian(layers[:, :-1, QUANTITIES.index("dead_units")].mean(axis=-1))
    return [
        f"{_gradient_norm(layers):.3g}",
        f"{_ratio(*_first_and_last(layers, 'gradient_norm')):.2g}",
        f"{signal[0]:.2g} to {signal[1]:.2g}",
        f"{dead:.0%}",
    ]


def _description(layers: Health, stage: str) -> str:
    """Describe layers (seeds, layers, quantities)."""
    shrinkage = _ratio(*_first_and_last(layers, "activation_std"))
    shrinks = shrinkage >= THRESHOLD
    change = "keeps its size"
    if shrinks:
        change = f"shrinks {_times(shrinkage)}"
    elif shrinkage <= 1 / THRESHOLD:
        change = f"grows {_times(_ratio(1, shrinkage))}"
    # A small gradient later on may mean success, unless the signal still shrinks.
    gradient = _gradient_description(layers, small_matters=stage == STAGES[0] or shrinks)
    return f"the signal {change} from the first to the last hidden layer and {gradient}"


def _gradient_description(layers: Health, small_matters: bool) -> str:
    ratio, norm = _ratio(*_first_and_last(layers, "gradient_norm")), _gradient_norm(layers)
    if ratio >= THRESHOLD:
        return f"the weights' gradient is {_times(ratio)} larger in the first than in the last"
    if ratio == 0:
        return "no gradient reaches the weights of the first"
    if ratio <= 1 / THRESHOLD:
        return f"the weights' gradient is {_times(_ratio(1, ratio))} smaller in the first"
    if norm <= 1 / THRESHOLD and small_matters:
        return f"the weights' gradient is small in all (norm {norm:.1g})"
    return "the weights' gradient is of one size"


def _times(ratio: float) -> str:
    return f"{ratio:.0f}-fold" if np.isfinite(ratio) else "without bound"


def _gradient_norm(layers: Health) -> float:
    norms = np.linalg.norm(layers[..., QUANTITIES.index("gradient_norm")], axis=-1)
    return float(np.nanmedian(norms))


def _first_and_last(layers: Health, quantity: str) -> NDArray[np.float64]:
    """Return a quantity in the first and the last hidden layer (2,)."""
    hidden = np.nanmedian(layers[:, :-1, QUANTITIES.index(quantity)], axis=0)
    return hidden[[0, -1]]


def _ratio(first: float, last: float) -> float:
    """Return first / last: infinite, or NaN, where all units of a layer are dead."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(first) / np.float64(last))
