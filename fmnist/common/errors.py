"""What a user can put right: our exceptions, and how any such error becomes one line."""

import re

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)


class FmnistError(Exception):
    """Base of every error that the user can put right; its text is one helpful line."""


class ConfigError(FmnistError):
    """A value in the configuration is impossible or does not fit the data."""


class DataError(FmnistError):
    """The data set is missing, damaged or not what it claims to be."""


class TrackingError(FmnistError):
    """The tracking store cannot be used."""


class ComparisonError(FmnistError):
    """The runs cannot be compared as asked."""


class PromotionError(FmnistError):
    """The registry cannot be used, or not as asked."""


class ModelError(FmnistError):
    """A logged model is missing, or was altered since it was trained."""


class ImageError(FmnistError):
    """A file is no image that the model can be shown."""


class ReproductionError(FmnistError):
    """A run cannot be trained again."""


class TrainingError(FmnistError):
    """Training came to no usable result."""


USER_ERRORS = (FmnistError, HydraException, OmegaConfBaseException, OSError)
REFUSED = re.compile(r"API request to endpoint \S*/mlflow/(\S+) failed with error code (401|403)")
REMEDIES = {
    "401": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of a user it knows",
    "403": "this user may not do that; an admin of the server gives permissions",
}
NOT_INSTALLED = "is not installed; pip install '.[scale]'"
LAUNCHERS = ("joblib", "ray", "submitit_local", "submitit_slurm")  # of the extra `scale`
LONGEST_LINE = 2000  # characters; what was typed may be longer, and is part of many messages


def one_line(error: BaseException) -> str:
    """Say what was wrong, and what is allowed, in one line."""
    line = " ".join(_reason(error).split()) or type(error).__name__
    if "maximum recursion depth" in line:
        return "the configuration is nested too deeply, or refers to itself"
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"


def _reason(error: BaseException) -> str:
    """Return the message of an error.

    Hydra's and OmegaConf's messages span several lines and leave the key to a footer; here the
    key comes first, and a wrong choice is followed by the choices.
    """
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = (error.missing_cfg_file or "").rpartition("/")
        if group == "hydra/launcher" and choice in LAUNCHERS:
            other = "or one after another: hydra/launcher=basic"
            return f"{group}={choice}: {NOT_INSTALLED}, {other}"
        return f"{group}={choice}: choose one of {', '.join(error.options)}"
    if isinstance(error.__cause__, OmegaConfBaseException):
        error = error.__cause__
    if not isinstance(error, OmegaConfBaseException):
        text = " ".join(str(error).split())
        if refused := REFUSED.match(text):
            return f"the server refuses {refused[1]} ({refused[2]}): {REMEDIES[refused[2]]}"
        if ambiguous := re.match("Ambiguous value for argument '(.*?)'", text):
            return f"{ambiguous[1]}: several values are a sweep, which -m starts"
        if isinstance(error, OverrideParseException) and error.override not in text:
            return f"{error.override}: {text}"
        return text
    reason = str(error.msg).partition("\n")[0]
    if isinstance(error, MissingMandatoryValue) or "is not Optional" in reason:
        reason = "a value is needed"
    elif isinstance(error, ConfigAttributeError | ConfigKeyError) and error.parent_node is not None:
        reason = f"no such key; there are {', '.join(error.parent_node)}"
    return f"{error.full_key}: {reason}"


def can_be_put_right(error: BaseException) -> bool:
    """Tell a user's error from a bug; MLflow, which is imported late, has no type for a refusal."""
    return isinstance(error, USER_ERRORS) or is_refused(error)


def is_refused(error: BaseException) -> bool:
    """Tell whether a server refused a request for want of permission."""
    return bool(REFUSED.match(str(error)))
