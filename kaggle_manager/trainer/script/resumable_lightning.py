"""Lightning, resumable: copy this file, `resumable.py` and `resumable_state.py` beside your script.

    session = Session(target=1_000)
    batches = Batches(len(data), 32, seed=session.seed)
    trainer = Trainer(max_steps=session.target, callbacks=[SessionCallback(session, batches)])
    trainer.fit(model, DataLoader(data, batch_sampler=batches), ckpt_path=checkpoint_of(session))

`fit` returns at the target only: a session that is told to stop saves and leaves the program there. It saves at the
start of a batch, when everything that belongs to the one before is done: validation, schedulers, the epoch's end.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

from resumable import Session
from resumable_state import Batches, random_state, set_random_state

if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
    from pytorch_lightning import Callback, LightningModule, Trainer  # the same under its older name
    from pytorch_lightning.loggers import Logger
else:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.loggers import Logger

FILE = "lightning.ckpt"


def checkpoint_of(session: Session) -> str | None:
    """For `fit(ckpt_path=...)`."""
    return str(session.resume / FILE) if session.resume else None


class SessionCallback(Callback):
    """Saves when the session says so, keeps random generators and the loader's place, and passes on what is logged."""

    def __init__(self, session: Session, batches: Batches | None = None) -> None:
        self.session, self.batches = session, batches
        self._state: dict[str, Any] = {}
        self._resumed = False
        self._step = session.step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size > 1:
            raise RuntimeError("SessionCallback keeps the generators of one process: give the Trainer devices=1")
        trainer.loggers = [*trainer.loggers, _Curves(self.session, trainer)]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        signal.signal(signal.SIGTERM, self.session.stop)  # Lightning's own handler would leave before the save
        if self._resumed:
            loop = trainer.fit_loop.epoch_loop  # which counts the batch that had begun as it begins again
            loop.batch_progress.total.reset_on_restart()
            loop._batches_that_stepped -= not loop._should_accumulate()
            trainer.callback_metrics.update(self._state["metrics"])
            trainer.fit_loop._restarting = False  # else ReduceLROnPlateau misses the end of this epoch

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if self._resumed:
            self._resumed = False
            set_random_state(self._state["random"])
        if trainer.global_step == self._step:
            return  # gradients of this step are still being gathered
        self._step = trainer.global_step
        if self.session.due(self._step):
            self._save(trainer, batches_done=trainer.fit_loop.total_batch_idx)
        if not self.session.running(self._step):
            raise SystemExit(0)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step > self.session.saved:  # at the target, or where something else has ended it
            self._save(trainer, batches_done=trainer.fit_loop.total_batch_idx + 1)

    def state_dict(self) -> dict[str, Any]:
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._state, self._resumed = state, True
        if self.batches is not None:
            self.batches.step = state["batches"]

    def _save(self, trainer: Trainer, batches_done: int) -> None:
        metrics = dict(trainer.callback_metrics)
        self._state = {"random": random_state(), "batches": batches_done, "metrics": metrics}
        with self.session.checkpoint(trainer.global_step) as folder:
            trainer.save_checkpoint(folder / FILE)


class _Curves(Logger):
    """What modules log with `self.log`, as points of curves."""

    name, version = "session", ""

    def __init__(self, session: Session, trainer: Trainer) -> None:
        super().__init__()
        self._session, self._trainer = session, trainer

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            if name != "epoch":
                self._session.log(self._trainer.global_step, name, value)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing to keep."""
