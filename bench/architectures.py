"""Memory of a process that trains many architectures: python bench/architectures.py [N] [workers].

With `workers` the jobs run in two of joblib's workers, as those of a search do.
"""

import os
import sys
import tempfile
from pathlib import Path

from hydra import compose, initialize_config_dir

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))


class Silent:
    """An observer that does nothing."""

    def on_train_begin(self, progress: object) -> None:
        """Training starts."""

    def update(self) -> None:
        """An epoch starts or has ended."""

    def on_train_end(self) -> None:
        """Training has ended."""


def train(number: int) -> str:
    """Train the architecture of this number on digits for an epoch; return process and memory."""
    from fmnist.common.startup import importing_tensorflow
    from fmnist.config.instantiate import instantiate
    from fmnist.config.schema import Config

    with importing_tensorflow():
        from fmnist.training import devices, trainer
    devices.use_threads(1)
    with (
        tempfile.TemporaryDirectory() as folder,
        initialize_config_dir(version_base="1.3", config_dir=str(PROJECT / "conf")),
    ):
        sizes = [f"model.depth={2 + number % 23}", f"model.width={50 + 5 * number}"]
        overrides = ["data=digits", "training.epochs=1", f"output_dir={folder}", *sizes]
        config = Config.from_hydra(compose("train", overrides))
        prepared = trainer.prepare(config, instantiate("data", config.data))
        trainer.fit(prepared, "", None, Silent(), None)
    status = Path("/proc/self/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0]) // 1024
    return f"architecture {number + 1}: process {os.getpid()} holds {resident:,} MB"


def main() -> None:
    """Train them all; print the memory after every fourth."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    if "workers" in sys.argv:
        from joblib import Parallel, delayed

        results = Parallel(2, return_as="generator")(delayed(train)(n) for n in range(count))
    else:
        results = map(train, range(count))
    for number, line in enumerate(results):
        if number % 4 in (0, 3):
            print(line, flush=True)


if __name__ == "__main__":
    main()
