-- Done once, as PostgreSQL's administrator; the password of the role is that of PGPASSWORD.
\getenv password PGPASSWORD
SET log_statement = 'none';             -- a statement with a password in it is not logged,
SET log_min_error_statement = 'panic';  -- nor is it when it fails
CREATE ROLE mlflow LOGIN PASSWORD :'password';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
