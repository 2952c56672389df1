"""What is said of layer health follows from its numbers."""

import numpy as np

from fmnist import comparison_plots as plots
from fmnist.diagnosis import COLUMNS, rows, sentences
from fmnist.health_maps import QUANTITIES

GRADIENT, SIGNAL, DEAD = (
    QUANTITIES.index(name) for name in ("gradient_norm", "activation_std", "dead_units")
)


def health(gradient, signal, dead=0.0, epochs=2):
    """Two seeds, alike, of three hidden layers and an output layer."""
    values = np.ones((2, epochs + 1, 4, len(QUANTITIES)))
    values[:, 0, :3, GRADIENT] = gradient
    values[:, 0, :3, SIGNAL] = signal
    values[..., DEAD] = dead
    return values


def test_each_way_of_going_wrong_has_its_words():
    said = sentences(
        {
            "relu": health([1, 1, 1], [2.0, 1, 0.02]),
            "batch_norm": health([50, 5, 1], [1, 1, 1]),
            "tanh": health([0.01, 0.5, 1], [0.1, 1, 3]),
        }
    )
    faint = health([1, 1, 1], [1, 1, 1])
    faint[:, 0, :, GRADIENT] /= 1000
    [sentence] = sentences({"deep": faint})
    assert "before training, the signal keeps its size and the gradient is faint in" in sentence
    assert "all layers, its norm 0.002; after epoch 1" in sentence
    later = "after epoch 1 and after epoch 2, the signal keeps its size and the gradient reaches"
    assert said == [
        "relu: before training, the signal fades 100-fold on its way to the last hidden layer and "
        f"the gradient reaches all layers alike; {later} all layers alike.",
        "batch_norm: before training, the signal keeps its size and the gradient explodes 50-fold "
        f"on its way back to the first; {later} all layers alike.",
        "tanh: before training, the signal grows 30-fold on its way to the last hidden layer and "
        f"the gradient vanishes 100-fold on its way back to the first; {later} all layers alike.",
    ]


def test_the_table_has_medians_of_the_seeds():
    values = health([4, 2, 1], [2.0, 1, 0.5], dead=0.25)
    values[1] = np.nan  # a seed that stopped before
    table = [dict(zip(COLUMNS, row, strict=True)) for row in rows({"relu": values})]
    assert [row["when"] for row in table] == ["before training", "after epoch 1", "after epoch 2"]
    assert table[0] == {
        "layer health": "relu",
        "when": "before training",
        "gradient norm": f"{np.linalg.norm([4, 2, 1, 1]):.3g}",
        "first / last layer": "4",
        "activation std": "2 to 0.5",
        "dead": "25%",
    }


def test_one_epoch_is_enough():
    assert sentences({"relu": health([1, 1, 1], [1, 1, 1], epochs=1)}) == [
        "relu: before training and after epoch 1, the signal keeps its size and the gradient "
        "reaches all layers alike."
    ]


def test_profiles_are_drawn_for_each_moment():
    healths = {"relu": health([4, 2, 1], [2.0, 1, 0.5])}
    figure = plots.layer_profiles(healths, {"relu": "#000000"})
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == ["before training", "after epoch 1", "after epoch 2"]
    [line] = figure.axes[0].get_lines()
    np.testing.assert_array_equal(line.get_ydata(), [4, 2, 1, 1])
