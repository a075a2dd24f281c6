"""Hugging Face Trainer, resumable: copy this file and `resumable.py` beside your script.

    session = Session(target=1_000)
    arguments = TrainingArguments(output_dir="trainer", max_steps=session.target, save_strategy="no", seed=session.seed)
    trainer = Trainer(model, arguments, train_dataset=data, callbacks=[SessionCallback(session)])
    trainer.train(resume_from_checkpoint=session.resume and str(session.resume))

`train` returns at the target only: a session that is told to stop saves and leaves the program there. Checkpoints are
the Trainer's own: it keeps random generators and the loader's place itself.
"""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

from resumable import Session
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class SessionCallback(TrainerCallback):
    """Has the Trainer save when the session says so, commits what it saved, and passes on what it logs."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        ends_epoch = float(state.epoch or 0).is_integer() or state.global_step >= state.max_steps
        if not ends_epoch and self.session.due(state.global_step):  # else it is saved after the end of the epoch
            control.should_save = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.session.due(state.global_step):
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        step = state.global_step
        if step > self.session.saved:
            saved = Path(args.output_dir) / f"checkpoint-{step}"
            with self.session.checkpoint(step) as folder:
                if state.is_world_process_zero:
                    shutil.copytree(saved, folder, copy_function=_link_or_copy, dirs_exist_ok=True)
            if state.is_world_process_zero and not args.load_best_model_at_end:
                shutil.rmtree(saved)
        if step < self.session.target and not self.session.running(step):
            raise SystemExit(0)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is None or "train_runtime" in logs:
            return  # a summary of this session alone
        for name, value in logs.items():
            if isinstance(value, (int, float)) and not name.endswith(("epoch", "_runtime", "_per_second")):
                is_known = name != "grad_norm" or math.isfinite(value)  # fp16 skips steps while its scale is too large
                self.session.log(state.global_step, name, value if is_known else None)


def _link_or_copy(source: str, copy: str) -> None:
    try:
        os.link(source, copy)
    except OSError:
        shutil.copy2(source, copy)
