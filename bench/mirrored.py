"""What sharing batches costs where it cannot gain: two logical devices on one processor.

python bench/mirrored.py [model ...] trains each variant by stock Keras, 50 steps on one device and
50 with `training.strategy=mirrored` in turns, and prints the medians of nine turns.
"""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from hydra import compose, initialize_config_dir

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

TURNS, STEPS = 9, 50


def trainer(model: str, strategy: str, stack: ExitStack) -> Callable[[], float]:
    """Return what trains for some steps, and returns the milliseconds of one."""
    from fmnist import training
    from fmnist.building import create
    from fmnist.config import Config
    from fmnist.mirrored import SharedSteps

    with initialize_config_dir(version_base="1.3", config_dir=str(PROJECT / "conf")):
        choices = [f"model={model}", f"training.strategy={strategy}", "training.engine=keras"]
        config = Config.from_hydra(compose("train", [*choices, "output_dir=."]))
    dataset = create("data", config.data)
    network = training.compiled_model(config, dataset)
    shared = training.program_for(network, dataset, config, [])
    if isinstance(shared, SharedSteps):
        stack.enter_context(shared.lent_to(network))
    network.make_train_function()
    orders = training.epoch_orders(len(dataset.train), 0, 1, config.seed)
    batches = iter(training.in_batches(dataset.train, orders, config.training.batch_size))

    def train() -> float:
        started = time.perf_counter()
        for _ in range(STEPS):
            network.train_function(batches)
        return 1000 * (time.perf_counter() - started) / STEPS

    return train


def main() -> None:
    """Divide the processor, train, and print."""
    import tensorflow as tf

    [processor] = tf.config.list_physical_devices("CPU")
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, halves)
    for model in sys.argv[1:] or ("relu", "batch_norm", "selu_dropout"):
        with ExitStack() as stack:
            trainers = [trainer(model, strategy, stack) for strategy in ("none", "mirrored")]
            turns = [[train() for train in trainers] for _ in range(1 + TURNS)][1:]
        one, two = (median(times) for times in zip(*turns, strict=True))
        ratio = median(two / one for one, two in turns)
        print(f"{model}: {one:.1f} ms a step on one device, {two:.1f} on two; {ratio:.1f} times")


if __name__ == "__main__":
    main()
