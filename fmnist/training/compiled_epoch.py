"""The compiled engine: a whole epoch of Keras's own `train_step` as one XLA program."""

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from textwrap import shorten

import keras
import tensorflow as tf

from fmnist.data.datasets import Part
from fmnist.training.xla_layers import clone_for_xla

BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
PROGRAMS = 2
"""Programs that a process keeps. TensorFlow never frees what XLA compiled (its header
`device_compilation_cache.h`: no eviction); this bounds what Python holds beside that."""
MESSAGE_WIDTH = 200  # characters of a reason that is quoted from a library

CONVOLUTIONS = tuple(getattr(keras.layers, name) for name in dir(keras.layers) if "Conv" in name)


class CannotCompile(Exception):
    """An epoch with this model or callback cannot be one program; the message says why."""


@contextmanager
def copying() -> Iterator[None]:
    """Turn Keras's errors for a layer with an incomplete configuration into `CannotCompile`."""
    try:
        yield
    except (NotImplementedError, TypeError, ValueError) as error:
        reason = shorten(str(error), MESSAGE_WIDTH)
        raise CannotCompile(f"the model cannot be copied ({reason})") from error


@dataclass(frozen=True)
class Architecture:
    """All that decides a program; equal ones share it."""

    structure: str  # of the model, which is built and compiled
    examples: int  # training images
    batch_size: int
    model: keras.Model = field(compare=False)


class CompiledEpoch:
    """An epoch of training as one XLA program: a loop over the batches, then the short last one.

    The program trains its own copy of a model, the compiled copy, whose layers are written for XLA
    (`fmnist.training.xla_layers`). While a model is attached, its state is copied to the compiled
    copy before each epoch and back afterwards. So the model keeps stock Keras layers and is saved
    with them, and all models of one architecture share a program.

    Raises:
        CannotCompile: if the model cannot be copied.
    """

    def __init__(self, architecture: Architecture) -> None:
        model, examples = architecture.model, architecture.examples
        self.compiled_copy = compiled_copy_of(model)
        self.batch_size = architecture.batch_size
        self.steps = examples // self.batch_size
        image, dtype = model.input_shape[1:], model.inputs[0].dtype
        batch = (tf.TensorSpec((None, *image), dtype), tf.TensorSpec((None,), tf.uint8))
        self.step = tf.function(  # traced once, for batches of any size
            self.compiled_copy.train_step, input_signature=[batch], autograph=False
        )
        signature = [
            tf.TensorSpec((examples, *image), dtype),
            tf.TensorSpec((examples,), tf.uint8),
            tf.TensorSpec((examples,), tf.int32),
            tf.TensorSpec((), tf.int32),
        ]
        self.epoch = tf.function(
            self._epoch, input_signature=signature, jit_compile=True, autograph=False
        ).get_concrete_function()
        thread = ThreadPoolExecutor(1)  # XLA releases Python's lock while it compiles
        self.compiled = thread.submit(
            self.epoch, *(tf.zeros(spec.shape, spec.dtype) for spec in signature)
        )
        thread.shutdown(wait=False)

    def _epoch(
        self, images: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, steps: tf.Tensor
    ) -> None:
        def train_on(chosen: tf.Tensor) -> None:
            self.step((tf.gather(images, chosen), tf.gather(labels, chosen)))

        def batch(index: tf.Tensor) -> tuple[tf.Tensor]:
            train_on(tf.slice(order, [index * self.batch_size], [self.batch_size]))
            return (index + 1,)

        tf.while_loop(lambda index: index < steps, batch, (0,))
        if self.steps * self.batch_size < order.shape[0]:
            train_on(order[self.steps * self.batch_size :])

    def wait(self) -> None:
        """Wait until the program is compiled.

        Raises:
            CannotCompile: if XLA cannot compile the model.
        """
        try:
            self.compiled.result()
        except tf.errors.OpError as error:
            unknown = ", ".join(re.findall(r"No registered '(\w+)'", error.message))
            reason = f"it has no {unknown}" if unknown else shorten(error.message, MESSAGE_WIDTH)
            raise CannotCompile(f"XLA cannot compile the model ({reason})") from error

    @contextmanager
    def attach(self, model: keras.Model, train: Part) -> Iterator[None]:
        """Let `model.fit` train on `train` by this program; its data are orders (n,) int32."""
        images, labels = tf.constant(train.images), tf.constant(train.labels)
        build_state(model)
        variables = list(zip(state(model), state(self.compiled_copy), strict=True))

        def train_function(iterator: Iterator[tf.Tensor]) -> dict[str, tf.Tensor]:
            order = next(iterator)
            for variable, copy in variables:
                copy.assign(variable)
            self.epoch(images, labels, order, tf.constant(self.steps))
            for variable, copy in variables:
                variable.assign(copy)
            metrics: dict[str, tf.Tensor] = model.get_metrics_result()
            return metrics

        # Keras would wrap a `train_step` into one more graph, and trace and optimise that anew for
        # each model; it calls this function as it is.
        model.train_function = train_function
        try:
            yield
        finally:
            model.train_function = None


program_of = lru_cache(maxsize=PROGRAMS)(CompiledEpoch)


def compiled_epoch(
    model: keras.Model, train: Part, batch_size: int, callbacks: Sequence[keras.callbacks.Callback]
) -> CompiledEpoch:
    """Return the program for `model`; a new one compiles in the background.

    Raises:
        CannotCompile: if a callback needs every batch, if the model cannot be copied, or if the
            program would be slower than stock Keras.
    """
    if slow := next(filter(is_slow_in_xla, layers_of(model)), None):
        raise CannotCompile(f"XLA is slow at convolutions on a processor ({slow.name})")
    for callback in callbacks:
        if needs_every_batch(callback):
            raise CannotCompile(f"{type(callback).__name__} needs every batch")
    return program_of(Architecture(structure(model), len(train), batch_size, model))


def is_slow_in_xla(layer: keras.layers.Layer) -> bool:
    """Tell whether XLA's program for processors is many times slower than TensorFlow's kernel."""
    return isinstance(layer, CONVOLUTIONS) and not tf.config.list_physical_devices("GPU")


def layers_of(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yield a layer or model and all layers in it, however deep."""
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from layers_of(inner)


def needs_every_batch(callback: keras.callbacks.Callback) -> bool:
    """Tell whether `callback` acts on batches, by its frequency (Keras's own) or its methods."""
    how_often = getattr(callback, "save_freq", getattr(callback, "update_freq", None))
    if how_often is not None:
        return bool(how_often != "epoch")
    return any(
        getattr(getattr(callback, hook), "__func__", None)
        is not getattr(keras.callbacks.Callback, hook)
        for hook in BATCH_HOOKS
    )


def structure(model: keras.Model) -> str:
    """Describe layers, loss, metrics and optimizer; the learning rate is state unless scheduled."""
    with copying():
        compiled = model.get_compile_config()
        if isinstance(compiled["optimizer"]["config"].get("learning_rate"), float):
            del compiled["optimizer"]["config"]["learning_rate"]
        return json.dumps(
            [model.get_config(), compiled], default=keras.saving.serialize_keras_object
        )


def compiled_copy_of(model: keras.Model) -> keras.Model:
    """Return a copy of `model` with fast layers for XLA, compiled alike, with its own state."""
    with copying():
        compiled_copy = keras.models.clone_model(model, clone_function=clone_for_xla)
        compiled_copy.compile_from_config(model.get_compile_config())
    build_state(compiled_copy)
    return compiled_copy


def build_state(model: keras.Model) -> None:
    """Create what Keras creates late: the variables of the optimizer and of the metrics."""
    image = tf.zeros((1, *model.input_shape[1:]), model.inputs[0].dtype)
    label, probabilities = tf.zeros(1, tf.uint8), model(image)
    model.compute_loss(image, label, probabilities)
    model.compute_metrics(image, label, probabilities)
    model.reset_metrics()
    model.optimizer.build(model.trainable_variables)


def state(model: keras.Model) -> list[keras.Variable]:
    """Return all that training changes: weights, seeds, optimizer and metrics."""
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]
