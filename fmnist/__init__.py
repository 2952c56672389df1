"""Deep dense networks on Fashion-MNIST: Hydra composes, Keras trains, MLflow tracks."""

import atexit
import gc
import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
"""The folder of train.py and conf/; the default tracking store lies in it."""

# All are read at import: no notices and no bars of theirs, unless the user asks for them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Our commands say themselves where to look.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

# What TensorFlow and MLflow make at import lives to the end: looking through it for garbage takes
# about a second of the start, and more than that at exit.
gc.set_threshold(100_000)
atexit.register(gc.freeze)
