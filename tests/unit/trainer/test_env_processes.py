"""What ends the process of an environment is what ends the training, with the place where it was raised."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from trainer_runs import FailsAtStep, Holding, session, settings

from kaggle_manager.errors import RunError
from kaggle_manager.trainer.runtime.session_files import failure
from kaggle_manager.trainer.sb3 import env_probe

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals")]


class CannotBeMade(Holding):
    def __init__(self) -> None:
        raise FileNotFoundError("no map of this town")


class Killed(FailsAtStep):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        try:
            return super().step(action)
        except ValueError:
            os.kill(os.getpid(), signal.SIGKILL)
            raise


@pytest.mark.parametrize(
    ("environment", "raised", "says", "where"),
    [
        (FailsAtStep, ValueError, "the wheel came off", "in step"),
        (CannotBeMade, FileNotFoundError, "no map of this town", "in __init__"),
        (Killed, RunError, "was it out of memory?", ""),
    ],
)
def test_it_is_raised_here_and_not_a_broken_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Any, raised: type[Exception], says: str, where: str
) -> None:
    exactness = env_probe.Exactness("none", "not tried", deterministic=False)
    monkeypatch.setattr(env_probe, "probe", lambda *_: exactness)  # else it would be raised in this process
    changes = {"algorithm": "A2C", "hyperparameters": {}, "environment": environment, "processes": True}
    with pytest.raises(raised) as caught:
        session(settings(tmp_path / "tree", **changes))
    assert where in "".join(getattr(caught.value, "__notes__", ()))
    assert failure(caught.value)["error"]["last_line"].partition("\n")[0].endswith(says)
