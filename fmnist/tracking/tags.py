"""Names of the tags by which runs, studies and models are found again in MLflow."""

SWEEP_TAG = "sweep"  # of a study: the folder of the sweep that makes its runs
STUDY_TAG = "study"  # of a study: its design, as JSON
COMMAND_TAG = "command"  # what repeats a run, or continues a study
REPRODUCES_TAG = "reproduces"  # run id of the run that this one repeats
REPRODUCTION_TAG = "reproduction"  # of such a run: whether the same came of it
SIGNATURE_TAG = "signature"  # equal for runs that come to the same weights
HOST_TAG, PID_TAG, FOLDER_TAG = "host", "pid", "output_dir"  # where a run is being made
HEARTBEAT_TAG = "heartbeat"  # milliseconds since 1970, each minute
RESUMED_TAG = "resumed"  # how many times a stopped run went on
DIGEST_TAG = "weights.digest"  # .last and .best
TRIAL_TAG = "search.trial"  # of a run that a search made: its number; such a run is no evidence
STOPPED_TAG = "search.stopped"  # of a pruned trial: the epoch after which it ended, from 1
ERROR_TAG = "error"  # of a failed run: type and message
CODE_TAG = "code.digest"
DATA_TAG = "data.fingerprint"
PATCH_TAG = "git.patch"  # digest of the uncommitted changes; absent: there were none
ENGINE_TAG = "engine"  # which trained

# MLflow's own
COMMIT_TAG = "mlflow.source.git.commit"
COLOUR_TAG = "mlflow.runColor"  # of the run's lines and bars in MLflow's UI
NOTE_TAG = "mlflow.note.content"  # the description at the top of the run's page
PARENT_TAG = "mlflow.parentRunId"
