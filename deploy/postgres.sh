#!/bin/sh
# Run once by the image of PostgreSQL, when it makes the database of docker-compose.yml: a user and a database for the
# orchestrator, and a user for Temporal, who makes databases of its own. Neither is a superuser.
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
\getenv orchestrator DATABASE_PASSWORD
\getenv temporal TEMPORAL_DATABASE_PASSWORD
CREATE ROLE orchestrator LOGIN CREATEROLE PASSWORD :'orchestrator';
CREATE DATABASE orchestrator OWNER orchestrator;
CREATE ROLE temporal LOGIN CREATEDB PASSWORD :'temporal';
SQL
