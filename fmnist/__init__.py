"""Deep dense networks on Fashion-MNIST: Hydra composes, Keras trains, MLflow tracks."""

import atexit
import gc
import os
from importlib.metadata import version
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
"""The folder of train.py and conf/; the default tracking store lies in it."""

# All are read at import: no start-up notices, unless the user asks for them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
if version("tensorflow").startswith("2.21."):  # another version may not know the flag, and abort
    # YNNPACK adds the bias within the matrix product: up to a fifth less for SELU and batch norm.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=dot")

# TensorFlow and MLflow make half a million objects that live to the end: looking through them for
# garbage takes a second while they are imported, and as long again at exit.
gc.set_threshold(100_000)
atexit.register(gc.freeze)
