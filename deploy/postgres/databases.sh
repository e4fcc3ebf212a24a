#!/bin/sh
# Runs once, when the server's volume is new: the role that owns both databases, and no more than that. It may create others,
# since each backup is proven by a restore into a scratch one.
set -eu
: "${INVSYNC_PASSWORD:?give the role a password in deploy/postgres.env}"
psql --no-psqlrc --set=ON_ERROR_STOP=1 --set=password="$INVSYNC_PASSWORD" --username="$POSTGRES_USER" --dbname=postgres <<'SQL'
CREATE ROLE invsync LOGIN CREATEDB PASSWORD :'password';
CREATE DATABASE invsync OWNER invsync ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE dagster OWNER invsync ENCODING 'UTF8' TEMPLATE template0;
SQL
