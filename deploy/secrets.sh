#!/bin/sh
# Write the settings of a new server, its secrets drawn anew:
#   sh deploy/secrets.sh mlflow.example.org deploy/.env
set -euC # C: a file that is there stays, for a database keeps the password that it was made with
umask 077
if [ $# -ne 2 ]; then
  echo "usage: $0 SERVER_NAME FILE" >&2
  exit 2
fi
name=$1 file=$2

secret() {
  head -c 24 /dev/urandom | base64 | tr '+/' '-_'
}

cat > "$file" <<END
SERVER_NAME=$name
PGPASSWORD=$(secret)
POSTGRES_PASSWORD=$(secret)
MLFLOW_FLASK_SERVER_SECRET_KEY=$(secret)
MLFLOW_AUTH_ADMIN_PASSWORD=$(secret)
END
