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
    from fmnist.config import Config
    from fmnist.experiment import run
    from fmnist.health import LayerHealth

    spent: list[float] = []
    for name in ("on_train_begin", "on_epoch_end", "on_train_end"):
        setattr(LayerHealth, name, timed(getattr(LayerHealth, name), spent))
    folder = tempfile.mkdtemp()
    for model in sys.argv[1:] or ("relu", "batch_norm", "selu_dropout"):
        with initialize_config_dir(version_base="1.3", config_dir=str(PROJECT / "conf")):
            places = [f"output_dir={folder}", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
            config = Config.from_hydra(compose("train", [f"model={model}", *places]))
        spent.clear()
        started = time.perf_counter()
        run(config)
        whole, health = time.perf_counter() - started, sum(spent)
        print(
            f"{model}: {health:.2f} s of {whole:.1f} s, {health / whole:.1%}; once {spent[5]:.3f} s"
        )


if __name__ == "__main__":
    main()
