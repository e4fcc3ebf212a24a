"""Backups of the database and the inbox as one thing: taken, proven, and brought back."""
