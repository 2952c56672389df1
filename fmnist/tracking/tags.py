"""Names of the tags by which runs, studies and models are found again in MLflow."""

SWEEP_TAG = "sweep"  # of a study: the folder of the sweep that makes its runs
STUDY_TAG = "study"  # of a study: its design, as JSON
COMMAND_TAG = "command"  # what repeats a run, or continues a study
REPRODUCES_TAG = "reproduces"  # run id of the run that this one repeats
SIGNATURE_TAG = "signature"  # what a run has in common with all that come to the same weights
HOST_TAG, PID_TAG, FOLDER_TAG = "host", "pid", "output_dir"  # where a run is being made
HEARTBEAT_TAG = "heartbeat"  # milliseconds since 1970, each minute
RESUMED_TAG = "resumed"  # how many times a stopped run went on
DIGEST_TAG = "weights.digest"  # .last and .best
TRIAL_TAG = "search.trial"  # of a run that a search made: its number; such a run is no evidence
STOPPED_TAG = "search.stopped"  # of a pruned trial: the epoch after which it ended, from 1
