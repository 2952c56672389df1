"""The batches of training and of evaluation, as tf.data gives them."""

import tensorflow as tf

from fmnist.data.datasets import Part

SCORING_BATCH = 2500


def epoch_orders(examples: int, epochs: range, seed: int) -> tf.data.Dataset:
    """Return for each epoch an order (examples,) int32, drawn from `seed` and the epoch."""
    orders = tf.data.Dataset.range(epochs.start, epochs.stop).map(
        lambda epoch: tf.random.experimental.stateless_shuffle(tf.range(examples), (seed, epoch))
    )
    return without_autotune(orders)


def in_batches(part: Part, orders: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Return the batches of `part`, images and labels, epoch after epoch."""
    images, labels = tf.constant(part.images), tf.constant(part.labels)
    starts = tf.data.Dataset.range(0, len(part), size)
    return (
        orders.flat_map(lambda order: starts.map(lambda start: order[start : start + size]))
        .map(lambda chosen: (tf.gather(images, chosen), tf.gather(labels, chosen)))
        .prefetch(tf.data.AUTOTUNE)
    )


def scoring_batches(part: Part) -> tf.data.Dataset:
    """Return the batches of `part`, images and labels, for evaluation."""
    examples = tf.data.Dataset.from_tensor_slices((part.images, part.labels))
    return without_autotune(examples.batch(SCORING_BATCH))


def without_autotune(data: tf.data.Dataset) -> tf.data.Dataset:
    """Turn off tf.data's tuning thread: starting and joining it takes longer than such batches."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)
