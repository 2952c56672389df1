"""The Hydra side of a study: a `-m` command states its question and ends with the comparison."""

import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from fmnist.config import Metric, Promotion, Study, Tracking, check_numbers
from fmnist.errors import ConfigError, FmnistError, one_line

if TYPE_CHECKING:
    from fmnist.study import OpenStudy

begun: list[tuple["OpenStudy", Promotion | None]] = []
"""Studies under way, each with the rules by which it shall promote at its end."""


class StudyCallback(Callback):
    """Make a sweep a study: open the parent run of its jobs before the first of them."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse to promote a single run, which is no evidence."""
        if config.promote:
            sys.exit("error: promote=true: needs a sweep over several seeds (-m)")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """State the question; a store that cannot be used ends the program here."""
        from fmnist import study  # only now, because MLflow takes a second to import
        from fmnist.comparison import Statement

        tracking, asked, rules = (
            OmegaConf.to_object(config[key]) for key in ("tracking", "study", "promotion")
        )
        assert isinstance(tracking, Tracking) and isinstance(asked, Study)
        assert isinstance(rules, Promotion)
        swept = swept_values(config)
        variants = {key: values for key, values in swept.items() if key != "seed"}
        try:
            _check_baseline(asked.baseline, variants)
            _check_metric(asked.metric, config.callbacks)
            check_numbers(config.promotion, "promotion.")
            statement = Statement(
                asked.question,
                asked.metric.name,
                tuple(variants) or ("model",),
                asked.baseline,
                asked.min_effect,
                math.prod(map(len, variants.values())) or None,
                _seeds(swept.get("seed", [config.seed])),
            )
            name = (
                config.hydra.runtime.choices.get("experiment")
                or f"sweep of {', '.join(swept) or 'one'}"
            )
            opened = study.begin(tracking, statement, name, str(config.hydra.sweep.dir))
            begun.append((opened, rules if config.promote else None))
        except FmnistError as error:
            sys.exit(f"error: {one_line(error)}")  # Hydra makes a mere warning of exceptions


def _check_baseline(baseline: str | None, variants: dict[str, list[str]]) -> None:
    """Refuse a baseline that is none of the models, where these are what the sweep varies."""
    models = variants.get("model")
    if baseline is not None and models and len(variants) == 1 and baseline not in models:
        raise ConfigError(f"study.baseline={baseline}: choose one of {', '.join(models)}")


def _check_metric(metric: Metric, callbacks: DictConfig) -> None:
    """Refuse the best checkpoint's accuracy where no checkpoint is kept."""
    if metric is Metric.best_val_accuracy and callbacks.get("checkpoint") is None:
        raise ConfigError(
            "study.metric=best_val_accuracy: needs callbacks.checkpoint; "
            "without it choose last_val_accuracy"
        )


def _seeds(values: Iterable[str | int]) -> tuple[int, ...]:
    seeds = tuple(map(_seed, values))
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seed={','.join(map(str, seeds))}: name each seed once")
    return seeds


def _seed(value: str | int) -> int:
    try:
        return int(value)
    except ValueError:
        raise ConfigError(f"seed={value}: must be a whole number") from None


@contextmanager
def concluded_studies() -> Iterator[None]:
    """End each study that was begun meanwhile with its comparison, also if jobs failed.

    Hydra tells its callbacks nothing of a sweep that ends badly. One that ends well promotes, if
    it shall.
    """
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        while begun:
            from fmnist import study

            opened, rules = begun.pop()
            study.conclude(opened, status)
            if rules and status != "FINISHED":
                ask = f"{opened.store.variable}python -m fmnist promote {opened.run_id}"
                print(f"no promotion, since not every job finished; ask for it by: {ask}")
            elif rules:
                from fmnist import promotion

                store = opened.store
                promotion.show(store, promotion.promote(store, opened.run_id, rules))


def swept_values(config: DictConfig) -> dict[str, list[str]]:
    """Return the keys that the sweep varies, as typed, with their values; none if unlimited."""
    params = config.hydra.sweeper.get("params") or {}
    task: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    swept: dict[str, list[str]] = {}
    parser = OverridesParser.create()
    for override in parser.parse_overrides([*(f"{k}={v}" for k, v in params.items()), *task]):
        key = override.get_key_element().lstrip("+")
        swept.pop(key, None)  # the command line goes before the sweeper's params
        glob = override.value_type is ValueType.GLOB_CHOICE_SWEEP
        if override.is_discrete_sweep() and not glob:
            swept[key] = list(override.sweep_string_iterator())
        elif override.is_sweep_override():
            swept[key] = []
    return swept
