"""A run told to an experiment tracker, once or as often as one likes: every call brings the tracker up to date."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from kaggle_manager.checkpoints.tree_lock import hold_file
from kaggle_manager.config import RunConfig
from kaggle_manager.integrations import Tracker, mlflow_tracker, wandb_tracker
from kaggle_manager.integrations.service_errors import refuse_secrets
from kaggle_manager.integrations.tracked import tracked_run
from kaggle_manager.runs.journal import Journal


@dataclass(frozen=True)
class TrackReport:
    """What a tracker has of a run now.

    Attributes:
        tracker: `mlflow` or `wandb`.
        run_id: of the run here.
        tracked_as: its id there.
        where: its address there; of a run in offline mode the folder that `wandb sync` sends; "" where nobody knows.
        points: how many points of its curves were sent.
        up_to_date: there was nothing to send.
    """

    tracker: str
    run_id: str
    tracked_as: str
    where: str
    points: int
    up_to_date: bool


def track_run(config: RunConfig, tracker: Tracker, project: str | None, now: float) -> TrackReport:
    """Bring a tracker up to what is known of the run of a training tree.

    Args:
        project: where it belongs there: the experiment of MLflow, the project of Weights & Biases; None: as the
            tracker's own variable says, else the section's name.
        now: seconds since the epoch.

    Raises:
        NotFound: nothing was trained yet.
        ConfigError: a parameter has a token in it.
        Busy: another command tells this tracker of the same training tree.
        ImportError: the library of the tracker is not installed.
        KaggleManagerError: what the tracker answers; see `service_errors`.
    """
    with closing(Journal.to_read(config.journal)) as journal:
        run = tracked_run(config, journal, now)
    refuse_secrets({f"the parameter {name}": value.encode() for name, value in run.parameters.items()})
    lock = config.state / f"track-{tracker}-{config.tree_key}.lock"
    with hold_file(lock, f"Another command tells {tracker} of {config.tree}"):
        if tracker is Tracker.MLFLOW:
            sent = mlflow_tracker.send(run, project)
        else:
            sent = wandb_tracker.send(run, project, config.state / "tracking")
    return TrackReport(tracker.value, run.run_id, sent.tracked_as, sent.where, sent.points, up_to_date=not sent.is_new)
