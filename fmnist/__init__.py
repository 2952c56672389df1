"""Deep dense networks on Fashion-MNIST: Hydra composes, Keras trains, MLflow tracks."""

import atexit
import gc
import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
"""The folder of train.py and conf/; the default tracking store lies in it."""

# Both are read at import: no start-up notices, unless the user asks for them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

# TensorFlow and MLflow make half a million objects that live to the end: looking through them for
# garbage takes a second while they are imported, and as long again at exit.
gc.set_threshold(100_000)
atexit.register(gc.freeze)
