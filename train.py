"""Train one network, tracked: `python train.py model=selu_dropout`; options: `--help`."""

import hydra
from omegaconf import DictConfig

from fmnist.composing import check_command_line
from fmnist.config.schema import Config
from fmnist.common.exits import job, one_line_errors
from fmnist.sweeps.callback import concluded_studies


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@job
def main(composed: DictConfig) -> float:
    """Run one experiment and return its objective for a sweeper: best validation accuracy."""
    config = Config.from_hydra(composed)
    from fmnist.runs.run import run  # only now, so that help and a bad value answer at once

    return run(config).objective


if __name__ == "__main__":
    with one_line_errors(), concluded_studies():
        check_command_line()
        main()
