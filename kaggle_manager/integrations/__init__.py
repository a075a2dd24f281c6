"""What is told of a run to services of others: experiment trackers, and a hub of models.

Only from here, never from a session: credentials stay on the machine of the user. The libraries of the services are
optional, and imported when they are used.
"""

from enum import StrEnum


class Tracker(StrEnum):
    """A kind of experiment tracker."""

    MLFLOW = "mlflow"
    WANDB = "wandb"
