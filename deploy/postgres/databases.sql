-- Runs once, when the server's volume is new. The image itself makes the database of the stock; this one is Dagster's.
CREATE DATABASE dagster OWNER invsync;
