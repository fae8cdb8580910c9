#!/bin/sh
# Run once by the image of PostgreSQL, when it makes what docker-compose.yml keeps: a user and a database for the
# orchestrator, a user and two databases for Temporal. Neither user is a superuser.
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
\getenv orchestrator DATABASE_PASSWORD
\getenv temporal TEMPORAL_DATABASE_PASSWORD
CREATE ROLE orchestrator LOGIN CREATEROLE PASSWORD :'orchestrator';
CREATE DATABASE orchestrator OWNER orchestrator;
CREATE ROLE temporal LOGIN PASSWORD :'temporal';
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
SQL
