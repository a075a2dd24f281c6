"""A training that does nothing but save, to be killed. Prints each promise the store gave, at once.

python saving_child.py ROOT
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from crash_workload import SCENARIO, TARGET, resume_log, save, save_best

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree


def main() -> None:
    store = CheckpointStore(TrainingTree(Path(sys.argv[1]), SCENARIO), warn=lambda message: print("warn", message))
    log, step = resume_log(store)
    print("resumed", step, flush=True)
    while step < TARGET * 1000:
        step += 1
        save(store, log, step)
        print("latest", step, flush=True)
        if step % 3 == 0 and save_best(store, step, float(step)):
            print("best", step, flush=True)


if __name__ == "__main__":
    main()
