"""Train one network, tracked: `python train.py model=selu_dropout`; options: `--help`."""

import hydra
from omegaconf import DictConfig

from fmnist.common.exits import check_command_line, one_line_errors
from fmnist.config.schema import Config
from fmnist.sweeps.job import Job, single_run


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(composed: DictConfig, job: Job | None = None) -> float:
    """Do the job of a sweep, or a single run, and return the objective."""
    if job:  # the sweep reports its error
        return train(composed, job)
    with one_line_errors():  # before Hydra adds a line
        return train(composed, single_run())


def train(composed: DictConfig, job: Job) -> float:
    """Train one network and return the objective for a sweeper: best validation accuracy."""
    config = Config.from_hydra(composed)
    from fmnist.runs.run import run  # only now, so that help and a bad value answer at once

    return run(config, job.context, job.pruner).objective


if __name__ == "__main__":
    with one_line_errors():
        check_command_line()
        main()
