"""A script of its own: each step makes its state of the one before, as learning does."""

import hashlib
import json
import os
import signal
from pathlib import Path

saves, target = Path(os.environ["KM_SESSION_SAVES"]), int(os.environ["KM_SESSION_TARGET"])
stop_at = int(os.environ.get("KM_SESSION_STOP_AT", target))
step, state, resume = 0, os.environ["KM_SESSION_SEED"].encode(), os.environ.get("KM_SESSION_RESUME")
if resume:
    step, state = int(os.environ["KM_SESSION_STEP"]), (Path(resume) / "state.bin").read_bytes()
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))


def save():
    folder = saves / f"{step}.tmp"
    (folder / "parts").mkdir(parents=True)
    (folder / "state.bin").write_bytes(state)
    (folder / "parts/.odd name").write_text(str(step))
    folder.rename(saves / str(step))


while step < stop_at and not stopped:
    step += 1
    state = hashlib.sha256(state + b"%d" % step).digest()
    with (saves / "metrics.jsonl").open("a") as file:
        print(json.dumps({"step": step, "name": "loss", "value": abs(step - 30)}), file=file)
    if step % 10 == 0 or step == stop_at:
        save()
if stopped:
    save()
