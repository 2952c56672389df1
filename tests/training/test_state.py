"""A snapshot is read back as it was saved."""

import numpy as np

from fmnist.training.state import Snapshot


def test_a_snapshot_holds_arrays_numbers_and_words(tmp_path):
    state = {"best": 0.1, "weights": [np.arange(3.0)], "seen": {"x": None}, "scalar": np.float32(2)}
    kept = Snapshot("id", 3, True, [np.eye(2)], [state])
    kept.save(tmp_path / "snapshot.npz")
    found = Snapshot.load(tmp_path, "id")
    assert (found.epochs, found.stopped) == (3, True)
    np.testing.assert_array_equal(found.variables[0], np.eye(2))
    np.testing.assert_array_equal(found.callbacks[0]["weights"][0], np.arange(3.0))
    assert found.callbacks[0]["seen"] == {"x": None} and found.callbacks[0]["scalar"] == 2
    assert Snapshot.load(tmp_path, "another") is None
