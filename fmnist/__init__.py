"""Deep dense networks on Fashion-MNIST: Hydra composes, Keras trains, MLflow tracks."""

from pathlib import Path

from fmnist.common import startup

__version__ = "0.2.0"

PROJECT = Path(__file__).resolve().parent.parent
"""The folder of train.py and conf/; the default tracking store lies in it."""

startup.prepare_process()
