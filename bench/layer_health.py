"""What layer health costs, as a share of the run: python bench/layer_health.py [model ...]."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))


def timed(hook: Callable[..., None], spent: list[float]) -> Callable[..., None]:
    """Let `hook` add the seconds that it takes to `spent`."""

    def wrapper(*arguments: Any, **named: Any) -> None:
        started = time.perf_counter()
        hook(*arguments, **named)
        spent.append(time.perf_counter() - started)

    return wrapper


def main() -> None:
    """Train each variant once and print what share of the run the callback took."""
    from fmnist.config.schema import Config
    from fmnist.runs.run import run
    from fmnist.tracking.training_log import TrainingLog
    from fmnist.training import layer_health

    spent: list[float] = []
    for name in ("on_train_begin", "on_epoch_end", "on_train_end"):
        setattr(
            layer_health.LayerHealth, name, timed(getattr(layer_health.LayerHealth, name), spent)
        )
    background: list[float] = []
    TrainingLog._log_health = timed(TrainingLog._log_health, background)  # type: ignore[method-assign]
    for model in sys.argv[1:] or ("relu", "batch_norm", "selu_dropout"):
        with (
            tempfile.TemporaryDirectory() as folder,
            initialize_config_dir(version_base="1.3", config_dir=str(PROJECT / "conf")),
        ):
            places = [f"output_dir={folder}", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
            config = Config.from_hydra(compose("train", [f"model={model}", *places]))
            spent.clear()
            background.clear()
            started = time.perf_counter()
            run(config)
            whole = time.perf_counter() - started
        print(
            f"{model}: {sum(spent):.2f} s of {whole:.1f} s, {sum(spent) / whole:.1%}; "
            f"in the background, beside the next epoch: {sum(background):.2f} s"
        )


if __name__ == "__main__":
    main()
