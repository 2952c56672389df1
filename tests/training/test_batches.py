"""The batches of an epoch are decided by seed and epoch."""

import numpy as np

from fmnist.training.batches import epoch_orders


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    orders = list(epoch_orders(100, range(0, 3), 7).as_numpy_iterator())
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(100))
    assert not np.array_equal(orders[0], orders[1])
    longer = list(epoch_orders(100, range(0, 5), 7).as_numpy_iterator())
    np.testing.assert_array_equal(longer[:3], orders)
    resumed = list(epoch_orders(100, range(2, 5), 7).as_numpy_iterator())
    np.testing.assert_array_equal(resumed, longer[2:])
    other = next(epoch_orders(100, range(0, 1), 2**32 - 1).as_numpy_iterator())
    assert not np.array_equal(other, orders[0])
