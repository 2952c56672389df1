"""What is said of layer health follows from its numbers."""

import numpy as np

from evidence_samples import layer_health
from fmnist.evidence.layer_health import COLUMNS, QUANTITIES, STAGES, rows, sentences

GRADIENT, SIGNAL = QUANTITIES.index("gradient_norm"), QUANTITIES.index("activation_std")


def test_each_way_of_going_wrong_has_its_words():
    keeps = "the signal keeps its size from the first to the last hidden layer"
    level = "the weights' gradient is of one size"
    later = f"after epoch 1 and at the end, {keeps} and {level}."
    faint = layer_health([1, 1, 1], [1, 1, 1])
    faint[:, 0, :, GRADIENT] /= 1000
    texts = sentences(
        {
            "relu": layer_health([1, 1, 1], [2.0, 1, 0.02]),
            "batch_norm": layer_health([50, 5, 1], [1, 1, 1]),
            "tanh": layer_health([0.01, 0.5, 1], [0.1, 1, 3]),
            "deep": faint,
            "dead": layer_health([0, 0, 1], [1, 1, 0]),
            "noise": layer_health([1, 1, 1], [0, 0, 1e-8]),
            "fine": layer_health([1, 1, 1], [1, 1, 1]),
        }
    )
    shrinks = "shrinks 100-fold from the first to the last hidden layer"
    grows = "grows 30-fold from the first to the last hidden layer"
    without = "shrinks without bound from the first to the last hidden layer"
    rises = "grows without bound from the first to the last hidden layer"
    assert texts == [
        f"relu: before training, the signal {shrinks} and {level}; {later}",
        f"batch_norm: before training, {keeps} and the weights' gradient is 50-fold larger in the "
        f"first than in the last; {later}",
        f"tanh: before training, the signal {grows} and the weights' gradient is 100-fold smaller "
        f"in the first; {later}",
        f"deep: before training, {keeps} and the weights' gradient is small in all (norm 0.002); "
        f"{later}",
        f"dead: before training, the signal {without} and no gradient reaches the weights of the "
        f"first; {later}",
        f"noise: before training, the signal {rises} and {level}; {later}",
        f"fine: before training and {later}",
    ]


def test_a_small_gradient_is_told_as_long_as_the_signal_fades():
    stuck = layer_health([1, 1, 1], [2.0, 1, 0.02])
    stuck[..., SIGNAL] = stuck[:, :1, :, SIGNAL]
    stuck[..., GRADIENT] = 0.001
    [sentence] = sentences({"relu": stuck})
    assert sentence.startswith("relu: before training and after epoch 1 and at the end, the signal")
    assert sentence.endswith("the weights' gradient is small in all (norm 0.002).")


def test_the_table_has_medians_of_the_seeds_each_at_its_own_end():
    values = layer_health([4, 2, 1], [2.0, 1, 0.5], dead=0.25)
    values[0, 2, :, GRADIENT] = 3
    values[1, 1, :, GRADIENT] = 3
    values[1, 2] = np.nan  # this seed stopped after epoch 1
    table = [dict(zip(COLUMNS, row, strict=True)) for row in rows({"relu": values})]
    assert [row["when"] for row in table] == list(STAGES)
    assert table[0] == {
        "layer health": "relu",
        "when": "before training",
        "gradient norm": f"{np.linalg.norm([4, 2, 1, 1]):.3g}",
        "first / last": "4",
        "activation std": "2 to 0.5",
        "dead units": "25%",
    }
    assert table[1]["gradient norm"] == f"{(2 + 6) / 2:.3g}"
    assert table[2]["gradient norm"] == "6"


def test_a_network_whose_units_are_all_dead_has_a_table():
    [row, *_] = rows({"dead": layer_health([0, 0, 0], [0, 0, 0], dead=1)})
    assert row[3:] == ["nan", "0 to 0", "100%"]
