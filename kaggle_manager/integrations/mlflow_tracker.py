"""A run in MLflow: one run there over all sessions, found again by a tag, and brought up to what is known here.

Promises: what is there is asked of the server, and nothing is kept on this machine, so nothing is sent twice and a call
after an outage, or from another machine, sends what is missing. Where the server is, and who may write there, MLflow's
own variables and files say (`MLFLOW_TRACKING_URI`, `MLFLOW_TRACKING_TOKEN`, ...).
Never does: change or delete a point that is there.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from kaggle_manager.checkpoints.sealed_json import canonical
from kaggle_manager.integrations.sent import Sent
from kaggle_manager.integrations.service_errors import answers_of, without_secrets
from kaggle_manager.integrations.tracked import TrackedRun
from kaggle_manager.system.files import sha256_bytes
from kaggle_manager.system.formatting import epoch

EXPERIMENT_VARIABLE = "MLFLOW_EXPERIMENT_NAME"
RUN_TAG, LINEAGE_TAG = "kaggle_manager.run_id", "kaggle_manager.lineage_sha256"
LINEAGE_FILE = "lineage.json"
# What MLflow accepts in one request, and of one name and value (mlflow.org/docs, REST API, Log Batch).
_MOST_METRICS, _MOST_OTHERS = 1000, 100
_LONGEST_NAME, _LONGEST_VALUE = 250, 500
# The next call catches up: an outage shall not hold one for minutes, as it does by default.
_SETTINGS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_DISABLE_TELEMETRY": "true"}
_STATUS = {"running": "RUNNING", "finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_SIGN_IN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, and run it again"


def send(run: TrackedRun, project: str | None) -> Sent:
    """Bring the run in MLflow up to `run`.

    Args:
        project: the experiment; None: `MLFLOW_EXPERIMENT_NAME`, else the section's name.

    Raises:
        ImportError: mlflow is not installed.
        AuthError, NotFound, RateLimited, ConfigError, Unavailable: the server refused, or did not answer.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    with (
        answers_of("MLflow", safe="the run and its training tree", sign_in=_SIGN_IN),
        contextlib.redirect_stdout(io.StringIO()),  # it prints addresses, with the password that may be in them
    ):
        import mlflow

        client = mlflow.MlflowClient()
        experiment = _experiment(client, project or os.environ.get(EXPERIMENT_VARIABLE) or run.section)
        there = _run(client, experiment, run)
        points = _send_series(client, there, run)
        changed = _send_words(client, there, run)
        is_new_status = _set_status(client, there.info, run)
        server = without_secrets(mlflow.get_tracking_uri())
    place = f"{server}/#/experiments/{experiment}/runs/{there.info.run_id}" if server.startswith("http") else server
    return Sent(there.info.run_id, place, points, is_new=changed or is_new_status or points > 0)


def _experiment(client: Any, name: str) -> str:
    """Its id; it is made when it is not there, perhaps by another machine at this moment."""
    from mlflow.exceptions import MlflowException

    if (found := client.get_experiment_by_name(name)) is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            if (found := client.get_experiment_by_name(name)) is None:
                raise
    return str(found.experiment_id)


def _run(client: Any, experiment: str, run: TrackedRun) -> Any:
    """The run there that is this one; made when there is none."""
    with_tag = f"tags.`{RUN_TAG}` = '{run.run_id}'"
    found = client.search_runs([experiment], with_tag, max_results=10)
    if found:
        return min(found, key=lambda each: each.info.run_id)  # of two that two machines made at the same moment
    return client.create_run(experiment, _ms(run.started_at), {RUN_TAG: run.run_id}, run.name)


def _send_series(client: Any, there: Any, run: TrackedRun) -> int:
    """Send the points whose steps are not there; how many."""
    from mlflow.entities import Metric

    missing = []
    for name, points in run.series.items():
        key = _key(name)
        history = client.get_metric_history(there.info.run_id, key) if key in there.data.metrics else []
        known = {each.step for each in history}
        missing += [Metric(key, each.value, _ms(each.at), each.step) for each in points if each.step not in known]
    for part in _parts(missing, _MOST_METRICS):
        client.log_batch(there.info.run_id, metrics=part)
    return len(missing)


def _send_words(client: Any, there: Any, run: TrackedRun) -> bool:
    """Send parameters, tags and the lineage as far as they are others than those there; whether any was."""
    from mlflow.entities import Param, RunTag

    tags = {_key(name): value[:_LONGEST_VALUE] for name, value in run.facts.items()}
    params = {}
    for name, value in ((_key(name), value[:_LONGEST_VALUE]) for name, value in run.parameters.items()):
        if name not in there.data.params:
            params[name] = value
        elif there.data.params[name] != value:  # which MLflow does not change: a change that was accepted is a tag
            tags[f"changed.{name}"[:_LONGEST_NAME]] = value
    new = {name: value for name, value in tags.items() if there.data.tags.get(name) != value}
    for part in _parts([Param(*each) for each in params.items()], _MOST_OTHERS):
        client.log_batch(there.info.run_id, params=part)
    for part in _parts([RunTag(*each) for each in new.items()], _MOST_OTHERS):
        client.log_batch(there.info.run_id, tags=part)
    lineage = sha256_bytes(canonical(run.lineage))
    if is_longer := there.data.tags.get(LINEAGE_TAG) != lineage:
        client.log_dict(there.info.run_id, {"run_id": run.run_id, "sessions": list(run.lineage)}, LINEAGE_FILE)
        client.set_tag(there.info.run_id, LINEAGE_TAG, lineage)
    return bool(params or new or is_longer)


def _set_status(client: Any, there: Any, run: TrackedRun) -> bool:
    """Say whether the run continues; whether the server said otherwise."""
    status = _STATUS[run.outcome]
    if status == there.status:
        return False
    if run.outcome == "running":
        client.update_run(there.run_id, status)
    else:
        client.set_terminated(there.run_id, status, None if run.ended_at is None else _ms(run.ended_at))
    return True


def _parts(items: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    return (items[begin : begin + most] for begin in range(0, len(items), most))


def _key(name: str) -> str:
    """A name as MLflow takes one: it is also a path there."""
    parts = re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII).split("/")
    return "/".join(part for part in parts if part.strip(". "))[:_LONGEST_NAME].rstrip("/ ") or "_"


def _ms(moment: str) -> int:
    return int(epoch(moment) * 1000)
