#!/bin/sh
# Start the server: compose.yaml, the plain commands of README.md and the tests all do it by this.
# Its settings are the variables of .env, and where they are set PGHOST, PGPORT, MLFLOW_HOST,
# MLFLOW_PORT and MLFLOW_ARTIFACTS_DESTINATION.
set -eu
here=$(dirname "$0")
export PGHOST="${PGHOST:-127.0.0.1}" PGUSER=mlflow
export MLFLOW_AUTH_CONFIG_PATH="$here/auth.ini"
# Leaves out processes for language models, which need most of the memory.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
name=${SERVER_NAME:?the name under which people reach the server; deploy/secrets.sh writes it}
exec mlflow server --app-name basic-auth --workers 2 \
  --host "${MLFLOW_HOST:-127.0.0.1}" --port "${MLFLOW_PORT:-5000}" \
  --backend-store-uri postgresql+psycopg:///mlflow \
  --artifacts-destination "${MLFLOW_ARTIFACTS_DESTINATION:-$here/artifacts}" \
  --allowed-hosts "$name,127.0.0.1:*,localhost:*" --cors-allowed-origins "https://$name"
