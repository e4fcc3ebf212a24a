"""`python -m invsync_dagster.cli`: the `invsync` command where it is not on the path."""

from invsync_dagster.cli import main

main()
