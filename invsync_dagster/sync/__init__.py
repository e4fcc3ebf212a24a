"""Where the stock meets the platforms: intake, polls, the push protocol, settling, reconciliation. Imports no Dagster."""
