"""A value that a job would refuse is refused before the first job begins."""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from fmnist.common.errors import ConfigError, one_line
from fmnist.config.limits import check
from fmnist.sweeps.overrides import Overrides, bounding_values, parsed_value

Values = Mapping[str, list[str]]


def check_jobs(loader: ConfigLoader, config: DictConfig, overrides: Overrides) -> None:
    """Check each value of a sweep by itself; the seeds are left to `parsed_seeds`.

    Composing a configuration takes a quarter of a second. So a job is composed only for a choice
    on which other overrides depend; other values are set in what was composed.

    Args:
        loader: of Hydra.
        config: as Hydra composed it for the sweep, without what is swept.
        overrides: of the sweep.

    Raises:
        ConfigError: if there is no such key or choice, or if a value is none for its key.
    """
    checked = {k: o for k, o in overrides.items() if k != "seed" and not o.is_delete()}
    choices: dict[str, list[str]] = {}
    values: dict[str, list[str]] = {}
    for key, override in checked.items():
        options = loader.get_group_options(override.key_or_group)
        (choices if options else values)[key] = bounding_values(override)
        for choice in choices.get(key, ()):
            if override.is_sweep_override() and choice not in options:
                group = override.key_or_group
                raise ConfigError(f"{group}={choice}: choose one of {', '.join(options)}")
    for composed in _compositions(loader, config, overrides, choices):
        with read_write(composed), open_dict(composed):
            del composed["hydra"]
        for key, typed in values.items():
            for value in typed:
                _check_value(composed, overrides[key], parsed_value(value))


def _compositions(
    loader: ConfigLoader, config: DictConfig, overrides: Overrides, choices: Values
) -> Iterator[DictConfig]:
    """Compose jobs that together have each choice that matters; without any, `config` will do."""
    first = {key: [*_first(override)] for key, override in overrides.items()}
    jobs = [first]
    for group, options in choices.items():
        if group not in config or any(key.lstrip("+~").startswith(f"{group}.") for key in first):
            jobs += [first | {group: [f"{group}={option}"]} for option in options[1:]]
    if len(jobs) == 1:
        yield copy.deepcopy(config)
        return
    for job in jobs:
        yield loader.load_sweep_config(config, [typed for part in job.values() for typed in part])


def _first(override: Override) -> Iterator[str]:
    if override.is_sweep_override():
        yield f"{override.get_key_element()}={bounding_values(override)[0]}"
    elif override.input_line is not None:
        yield override.input_line


def _check_value(config: DictConfig, override: Override, value: Any) -> None:
    if isinstance(value, dict | list):
        return
    key = override.key_or_group
    try:
        OmegaConf.update(config, key, value, force_add=override.is_add() or override.is_force_add())
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from error
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    schema = OmegaConf.get_type(node)
    if dataclasses.is_dataclass(schema) and not OmegaConf.is_interpolation(node, name):
        limits = {field.name: field.metadata for field in dataclasses.fields(schema)}
        if isinstance(node[name], int | float):
            check(key, node[name], limits.get(name, {}))
