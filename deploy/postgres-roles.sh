#!/bin/sh
# Runs once, when the database volume is empty: the owner migrates, the application's role owns nothing.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres \
  --set owner_password="$LATCHFLOW_OWNER_PASSWORD" --set app_password="$LATCHFLOW_APP_PASSWORD" <<'SQL'
CREATE ROLE latchflow_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE latchflow_app LOGIN PASSWORD :'app_password';
CREATE DATABASE latchflow OWNER latchflow_owner;
REVOKE ALL ON DATABASE latchflow FROM PUBLIC;
GRANT CONNECT ON DATABASE latchflow TO latchflow_app;
SQL
