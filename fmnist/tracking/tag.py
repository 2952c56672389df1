"""Names of the tags by which runs, studies and models are found again in MLflow."""

SWEEP = "sweep"  # of a study: the folder of the sweep that makes its runs
STUDY = "study"  # of a study: its design, as JSON
CRITERIA = "promotion"  # of a study: its configuration's criteria of promotion, as JSON
THREADS = "threads"  # of a study: of each of its jobs, unless the configuration says another number
COMMAND = "command"  # what repeats a run, or continues a study
REPRODUCES = "reproduces"  # run id of the run that this one repeats
REPRODUCTION = "reproduction"  # of such a run: whether the same came of it
SIGNATURE = "signature"  # equal for runs that come to the same weights
HOST, PID, FOLDER = "host", "pid", "output_dir"  # where a run is being made
HEARTBEAT = "heartbeat"  # milliseconds since 1970, each minute
RESUMED = "resumed"  # how many times a stopped run went on
WEIGHTS_DIGEST = "weights.digest"  # .last and .best
MODEL_DIGEST = "model.digest"  # of the saved files
TRIAL = "search.trial"  # of a run that a search made: its number; such a run is no evidence
STOPPED = "search.stopped"  # of a pruned trial: the epoch after which it ended, from 1
ERROR = "error"  # of a failed run: type and message
CODE = "code.digest"  # of the Python files that can affect the run
DATA = "data.fingerprint"
PATCH = "git.patch"  # digest of the uncommitted changes; absent: there were none
FLAGS = "flags"  # environment variables that affect the weights; absent: there are none
ENGINE = "engine"  # which trained
PROCESSOR = "processor"  # on which it trained

# MLflow's own
COMMIT = "mlflow.source.git.commit"
COLOUR = "mlflow.runColor"  # of the run's lines and bars in MLflow's UI
NOTE = "mlflow.note.content"  # the description at the top of the run's page
PARENT = "mlflow.parentRunId"
