"""The rooms that import Dagster: assets, checks, jobs, schedules, sensors and the resource they share."""
