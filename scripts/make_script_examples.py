#!/usr/bin/env python3
"""Write docs/script_examples.md: each example script as it was, and the lines that make it resumable.

python scripts/make_script_examples.py            write the page
python scripts/make_script_examples.py --check    write nothing; 1 when the page is stale
"""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/script_examples.md"
EXAMPLES = ROOT / "docs/scripts"

HEAD = """\
# Scripts made resumable

Four training scripts, and the lines that make each [resumable](scripts.md). They are in
[docs/scripts](scripts): `before.py` as it was, `train.py` as it is. Copy the files that one imports from
[kaggle_manager/trainer/script](../kaggle_manager/trainer/script) beside it: they know nothing of the manager. On its
own, `python train.py` saves into `saves/`, ends in good order on Ctrl-C, and continues when it is started again.

This page is made by `scripts/make_script_examples.py`. How often each was killed and what came of it is on
[the page of the contract](scripts.md#frameworks).

For all of them:

* A step is over when everything that belongs to it is done: its schedule, its validation, its points of curves. Ask
  `session.due(step)` after that, last in the loop.
* Two runs are the same bits on the same kind of machine, with the same versions and the same number of threads. On a
  GPU, what the script asks of torch decides: `torch.use_deterministic_algorithms(True)`.
* Random transforms of the data: worker processes of a loader start with generators of their own, which no checkpoint
  has. Draw from a generator that is made of seed, epoch and item, and they are the same in every session.
* Where something ends the training before its target - early stopping - the newest checkpoint is kept and the manager's
  run stops with `EndedEarly`, because the target was not reached.
* Processes that train together (torchrun) save and stop at the same step. Each enters the block of `checkpoint` and
  saves what is its own, its generators for one; give `Batches` `rank` and `ranks`. The Trainer sees to that; the
  callback for Lightning refuses more than one process.
"""
TITLES = {
    "pytorch": (
        "PyTorch, a loop of its own",
        "`resumable.py`, `resumable_state.py`",
        """\
The two loops, over epochs and over batches, become one over steps: whatever the step, the next one is the next line.
`Batches` decides the order of the data from seed and step alone, so the loader's place needs no file.
""",
    ),
    "cleanrl": (
        "CleanRL's style: one file",
        "`resumable.py`, `resumable_state.py`",
        """\
A step is one of an environment, as `total_timesteps` counts them. It saves between updates, when the rollout is used
up; the environments are saved in the middle of their episodes, with their generators. They have to be picklable for
that, and in this process (`SyncVectorEnv`). Where they are not, leave the lines with `envs` out, and reset at a resume:
episodes begin anew there, and the run is not the same bits.

`RecordEpisodeStatistics` keeps how many seconds each episode took, so `envs.pkl` differs between any two runs, and the
preflight says so. What trains does not differ.
""",
    ),
    "lightning": (
        "Lightning",
        "`resumable.py`, `resumable_state.py`, `resumable_lightning.py`",
        """\
The checkpoint is Lightning's own, with the callback's state in it. `fit` returns at the target only.

* Means over an epoch of what `training_step` logs (`on_epoch=True`) are, in an epoch that was cut, over the part after
  the cut: Lightning keeps no running means in a checkpoint. Model, optimizer, schedules, validation and every value
  per step are the same bits.
* Lightning warns that the loader is not resumable. `Batches` is; Lightning cannot know.
* The first batch after a resume is fetched before the generators are set: where items draw random numbers in the
  training process, that batch has others.
* The callback saves at the start of a batch, when validation and schedules of the one before are done. It corrects what
  Lightning counts twice when it resumes there, and has ReduceLROnPlateau make its step at the end of the cut epoch,
  which Lightning leaves out.
""",
    ),
    "transformers": (
        "Hugging Face Trainer",
        "`resumable.py`, `resumable_transformers.py`",
        """\
The checkpoint is the Trainer's own, which keeps generators and the loader's place. `train` returns at the target only.

* With `logging_steps` above 1, the first loss that is logged after a resume is a mean over the steps since the resume:
  the Trainer does not keep the sum. Model, optimizer, schedule and evaluations are the same bits.
* The Trainer fetches ahead: a collator that draws random numbers (masking) draws others for two batches after a resume.
* The best checkpoint of `load_best_model_at_end` lies in `output_dir` and stays in its session. Say
  `best = { metric = "eval_loss", mode = "min" }` in section.toml instead.
""",
    ),
}


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, (title, files, text) in TITLES.items():
        parts += [f"## {title}\n", f"Copy {files}.\n", text, f"```diff\n{difference(name)}```\n"]
    return "\n".join(parts)


def difference(name: str) -> str:
    """What makes an example resumable, as a diff with a line around each change."""
    before, after = ((EXAMPLES / name / file).read_text("utf-8").splitlines() for file in ("before.py", "train.py"))
    lines = list(difflib.unified_diff(before, after, "before.py", "train.py", n=1, lineterm=""))[2:]
    return "".join(f"{'@@' if line.startswith('@@') else line}\n" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when the page is stale")
    if parser.parse_args().check:
        return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
