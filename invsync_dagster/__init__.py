"""invsync: one central stock that keeps every shop in step, run by Dagster."""
