"""What the demo asks of Dagster over the webserver's GraphQL: automation switched on, jobs launched, runs looked at."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import requests

from invsync_dagster.demo.services import DemoError

LOCATION = "invsync"
REPOSITORY = "__repository__"
TIMEOUT_SECONDS = 30.0

# A queued run is not waited for: the next start of the daemon takes it up.
GOING = ("STARTING", "STARTED", "CANCELING")

_AUTOMATION = """query {
  repositoriesOrError { __typename ... on RepositoryConnection { nodes {
    name location { name }
    sensors { name sensorState { status } }
    schedules { name scheduleState { status } } } } } }"""
_START_SENSOR = """mutation($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } } }"""
_START_SCHEDULE = """mutation($selector: ScheduleSelector!) {
  startSchedule(scheduleSelector: $selector) { __typename ... on PythonError { message } } }"""
_LAUNCH = """mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_RUN = """query($id: ID!) { runOrError(runId: $id) { __typename ... on Run { status } } }"""
_RUNS = """query($filter: RunsFilter!) { runsOrError(filter: $filter, limit: 100) { __typename
  ... on Runs { results { runId status } } } }"""


class Dagster:
    """The webserver of the demo."""

    def __init__(self, address: str) -> None:
        """`address` as `http://127.0.0.1:3000`."""
        self.address = address
        self._session = requests.Session()
        self._session.trust_env = False  # on loopback: no proxy

    def is_ready(self, locations: Collection[str]) -> bool:
        """Say whether the webserver answers and has loaded these code locations."""
        try:
            return {node["location"]["name"] for node in self._repositories()} >= set(locations)
        except (requests.RequestException, DemoError):
            return False

    def switch_on(self) -> list[str]:
        """Start every sensor and schedule that is stopped, and return their names."""
        switched = []
        for repository in self._repositories():
            place = {"repositoryLocationName": repository["location"]["name"], "repositoryName": repository["name"]}
            for sensor in repository["sensors"]:
                if sensor["sensorState"]["status"] != "RUNNING":
                    self._start(_START_SENSOR, "startSensor", {**place, "sensorName": sensor["name"]})
                    switched.append(sensor["name"])
            for schedule in repository["schedules"]:
                if schedule["scheduleState"]["status"] != "RUNNING":
                    self._start(_START_SCHEDULE, "startSchedule", {**place, "scheduleName": schedule["name"]})
                    switched.append(schedule["name"])
        return switched

    def launch(self, job: str, tags: Mapping[str, str]) -> str:
        """Launch a job with its default configuration and return the run's id."""
        selector = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, "jobName": job}
        metadata = {"tags": [{"key": key, "value": value} for key, value in tags.items()]}
        params = {"selector": selector, "runConfigData": {}, "executionMetadata": metadata}
        answer = self.ask(_LAUNCH, {"params": params})["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise DemoError(f"Dagster can't launch {job}: {answer.get('message', answer['__typename'])}")
        return str(answer["run"]["runId"])

    def run_status(self, run_id: str) -> str:
        """Return a run's status, `SUCCESS`, `FAILURE`, …"""
        return str(self.ask(_RUN, {"id": run_id})["runOrError"].get("status", "UNKNOWN"))

    def runs_under_way(self) -> list[str]:
        """Return the ids of runs that have a process."""
        answer = self.ask(_RUNS, {"filter": {"statuses": list(GOING)}})["runsOrError"]
        return [run["runId"] for run in answer.get("results", [])]

    def _repositories(self) -> list[dict[str, Any]]:
        return list(self.ask(_AUTOMATION, {})["repositoriesOrError"].get("nodes", []))

    def _start(self, mutation: str, field: str, selector: Mapping[str, str]) -> None:
        answer = self.ask(mutation, {"selector": dict(selector)})[field]
        if answer["__typename"] not in ("Sensor", "ScheduleStateResult"):
            raise DemoError(f"Dagster can't switch on {dict(selector)}: {answer.get('message', answer['__typename'])}")

    def ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the webserver's GraphQL and return the data. Raises `DemoError`, `requests.RequestException`."""
        answer = self._session.post(
            f"{self.address}/graphql", json={"query": query, "variables": dict(variables)}, timeout=TIMEOUT_SECONDS
        )
        document = answer.json() if answer.ok else {}
        if not answer.ok or document.get("errors"):
            raise DemoError(f"Dagster answers {answer.status_code}: {document.get('errors') or answer.text[:300]}")
        return dict(document["data"])
