"""The yardstick: a plain, untracked Keras script, written as anyone would.

    python bench/stock_keras.py selu_dropout
    python bench/stock_keras.py selu_dropout --tuned     as one who knows Keras well would

The data set has to be in Keras's cache; `python train.py` puts it there. Prints a line an epoch,
then the seconds of `fit` and of each epoch as JSON.
"""

import argparse
import json
import tempfile
import time

import keras

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
variants = ["relu", "batch_norm", "batch_norm_before", "selu", "selu_dropout", "selu_plain_dropout"]
parser.add_argument("variant", choices=variants)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--tuned", action="store_true", help="a tenth of an epoch in one call")
parser.add_argument("--jit", action="store_true", help="with --tuned: each step compiled by XLA")
options = parser.parse_args()


class Clock(keras.callbacks.Callback):
    """Note how long each epoch takes, validation included."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.started)


keras.utils.set_random_seed(options.seed)
(images, labels), _ = keras.datasets.fashion_mnist.load_data()
mean, std = images[5000:].mean(), images[5000:].std()
images = ((images - mean) / std).astype("float32")

model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten()])
for _ in range(20):
    if options.variant == "batch_norm_before":
        model.add(keras.layers.Dense(100))
        model.add(keras.layers.BatchNormalization())
        model.add(keras.layers.Activation("relu"))
    else:
        activation = "selu" if options.variant.startswith("selu") else "relu"
        model.add(keras.layers.Dense(100, activation=activation))
    if options.variant == "batch_norm":
        model.add(keras.layers.BatchNormalization())
if options.variant == "selu_dropout":
    model.add(keras.layers.AlphaDropout(0.5))
if options.variant == "selu_plain_dropout":
    model.add(keras.layers.Dropout(0.5))
model.add(keras.layers.Dense(10, activation="softmax"))

tuning = {"steps_per_execution": 172, "jit_compile": options.jit} if options.tuned else {}
model.compile(
    optimizer=keras.optimizers.SGD(0.01),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
    **tuning,
)
with tempfile.TemporaryDirectory() as folder:
    clock = Clock()
    started = time.perf_counter()
    model.fit(
        images[5000:],
        labels[5000:],
        epochs=options.epochs,
        validation_data=(images[:5000], labels[:5000]),
        validation_batch_size=1000 if options.tuned else None,
        verbose=2,
        callbacks=[
            clock,
            keras.callbacks.TensorBoard(folder),
            keras.callbacks.ModelCheckpoint(f"{folder}/best.keras", save_best_only=True),
            keras.callbacks.EarlyStopping(patience=5, min_delta=1e-3),
        ],
    )
    seconds = time.perf_counter() - started
print(json.dumps({"fit_seconds": seconds, "epoch_seconds": clock.seconds}))
