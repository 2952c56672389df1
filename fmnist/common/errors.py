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
NO_LAUNCHER = (
    "is not installed; pip install -e '.[cluster]', or jobs on this machine: hydra/launcher=joblib"
)
LONGEST_LINE = 2000  # characters; messages quote the command line, which may be longer


def is_user_error(error: BaseException) -> bool:
    """Tell whether the user can put an error right; otherwise it is a bug."""
    return isinstance(error, USER_ERRORS) or is_refused(error)


def is_refused(error: BaseException) -> bool:
    """Tell whether an MLflow server refused a request for lack of permission.

    MLflow has no exception for that, and importing it takes seconds: its message tells.
    """
    return bool(REFUSED.match(str(error)))


def one_line(error: BaseException) -> str:
    """Return what was wrong, and what is allowed, in one line."""
    line = " ".join(_message(error).split()) or type(error).__name__
    if "maximum recursion depth" in line:
        return "the configuration is nested too deeply, or refers to itself"
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"


def _message(error: BaseException) -> str:
    """Return the message of an error; that of a library gets the form of ours, the key first."""
    if isinstance(error, MissingConfigException) and error.options:
        return _unknown_choice(error)
    if isinstance(error.__cause__, OmegaConfBaseException):
        error = error.__cause__
    if isinstance(error, OmegaConfBaseException):
        return _omegaconf_message(error)
    message = " ".join(str(error).split())
    if refused := REFUSED.match(message):
        return f"the server refuses {refused[1]} ({refused[2]}): {REMEDIES[refused[2]]}"
    if several := re.match("Ambiguous value for argument '(.*?)'", message):
        return f"{several[1]}: several values need a sweep; add -m"
    if isinstance(error, OverrideParseException):
        return _unparsed(error, message)
    return message


def _unparsed(error: OverrideParseException, message: str) -> str:
    """Say which override Hydra cannot parse; of its words those that say more than that."""
    reason = re.sub("LexerNoViableAltException: .*| ?See https.*", "", message)
    because = f" ({reason})" if reason else ""
    return (
        f"{error.override}: Hydra cannot read this{because}; "
        "special characters need quotes for Hydra, too: 'KEY=\"VALUE\"'"
    )


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    if group == "hydra/launcher" and choice in ("submitit_local", "submitit_slurm"):
        return f"{group}={choice}: {NO_LAUNCHER}"
    return f"{group}={choice}: choose one of {', '.join(error.options or ())}"


def _omegaconf_message(error: OmegaConfBaseException) -> str:
    """Return the first of the lines, after the key, which OmegaConf puts in the last."""
    reason = str(error.msg).partition("\n")[0]
    if isinstance(error, MissingMandatoryValue) or "is not Optional" in reason:
        reason = "a value is needed"
    elif isinstance(error, ConfigAttributeError | ConfigKeyError) and error.parent_node is not None:
        reason = f"no such key; there are {', '.join(error.parent_node)}"
    return f"{error.full_key}: {reason}"
