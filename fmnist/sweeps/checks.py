"""A value that a job would refuse is refused before the first job begins."""

import copy

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, open_dict, read_write

from fmnist.config.schema import Config
from fmnist.sweeps.overrides import Overrides, listed_values


def check_jobs(loader: ConfigLoader, config: DictConfig, overrides: Overrides) -> Config:
    """Check jobs that together have each value of a sweep, and return the first of them.

    Composing one takes a seventh of a second. So these are not all combinations; of a range the
    ends are enough, and seeds are left to `parsed_seeds`.

    Raises:
        ConfigError: if a value is none for its key.
        HydraException: if there is no such key or choice.
    """
    options = [_options(key, override) for key, override in overrides.items()]
    count = max(map(len, options), default=1)
    jobs = [[values[number % len(values)] for values in options] for number in range(count)]
    configs = [_config_of_job(loader, config, job) for job in jobs]
    return configs[0]


def _options(key: str, override: Override) -> list[str]:
    """Return overrides that together have the limits of all values."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        return [f"{key}={sweep.start}", f"{key}={sweep.end}"]
    options = [f"{key}={value}" for value in listed_values(override)]
    if key == "seed":
        return options[:1]
    return [options[0], options[-1]] if isinstance(sweep, RangeSweep) else options


def _config_of_job(loader: ConfigLoader, config: DictConfig, job: list[str]) -> Config:
    """Return what a job gets, but for its folder; composed as by `hydra.core.utils.run_job`."""
    composed = loader.load_sweep_config(config, job)
    composed.hydra.job.id = composed.hydra.job.num = 0
    composed.hydra.runtime.output_dir = ""
    of_job = copy.deepcopy(composed)
    with read_write(of_job), open_dict(of_job):
        del of_job["hydra"]
    hydra_config = HydraConfig.instance()
    of_sweep = hydra_config.cfg
    hydra_config.set_config(composed)
    try:
        return Config.from_hydra(of_job)
    finally:
        hydra_config.cfg = of_sweep
