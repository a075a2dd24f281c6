"""The declared study on this machine: every training, kept as soon as it is done, then every episode, then the report.

    python -m validation_ch7.section_7_6_rl_performance.second_study.kept.study --jobs 2
    python -m validation_ch7.section_7_6_rl_performance.second_study.kept.study --keep --workdir runs --journal JOURNAL

What is kept is not computed again, so the same line goes on after anything; an interruption costs a training at most,
which resumes from its newest checkpoint. Commit `results/` whenever something was added to it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import kaggle_manager.trainer  # noqa: F401  # it pins the arithmetic, which has to be before NumPy is loaded
from kaggle_manager.errors import ConfigError, KaggleManagerError, NotFound
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import Declaration, read_declaration
from validation_ch7.section_7_6_rl_performance.second_study.kept.playing import places, play_missing
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import FOLDER, Kept
from validation_ch7.section_7_6_rl_performance.second_study.kept.trainings import code_sha256, keep_training
from validation_ch7.section_7_6_rl_performance.study import Training, train_all
from validation_ch7.section_7_6_rl_performance.training import PROJECT


@dataclass(frozen=True)
class Declared(Training):
    """A declared training, which is kept when its process has ended well."""

    kept: Kept
    declaration: Declaration
    site: str
    agent: str

    @property
    def is_kept(self) -> bool:
        """Whether it was trained and kept under this declaration."""
        found = self.kept.training(self.site, self.agent, self.seed)
        return found is not None and found["declaration"] == self.declaration.sha256

    def run(self) -> int:
        """Train and keep; return the exit code of the training."""
        code = code_sha256()
        ended = super().run()
        if ended == 0:
            if code_sha256() != code:
                raise ConfigError(f"{self}: the code was changed while it was trained, so it is not kept.")
            keep_training(
                self.kept, self.declaration, self.site, self.agent, self.seed, base=self.base, code_sha256=code
            )
        return ended


def trainings(kept: Kept, declaration: Declaration, base: Path, timesteps: int | None = None) -> list[Declared]:
    """Every declared training that is not kept yet: the main agent's first, site by site."""
    every = [
        Declared(each.scenarios[site], seed, timesteps, base, kept, declaration, site, agent)
        for agent, each in declaration.agents.items()
        for site in declaration.sites
        for seed in each.training_seeds
    ]
    return [training for training in every if not training.is_kept]


def keep_finished(
    kept: Kept, declaration: Declaration, base: Path, journal: Path | None = None, say: Callable[[str], None] = print
) -> None:
    """Keep every declared training below `base` that has reached its target, wherever it was trained; train none.

    Args:
        journal: the manager's journal, which knows where sessions began.

    Raises:
        ConfigError: the declaration is a draft.
    """
    for training in trainings(kept, declaration, base):
        try:
            keep_training(
                kept, declaration, training.site, training.agent, training.seed, base=base,
                code_sha256=code_sha256(), journal=journal,
            )  # fmt: skip
        except NotFound as error:
            say(f"not kept: {training}: {error.message}")
        else:
            say(f"kept: {training}")


def carry_out(kept: Kept, declaration: Declaration, base: Path, *, jobs: int = 1, timesteps: int | None = None) -> None:
    """Train, keep and play whatever is declared and not kept.

    Raises:
        ConfigError: the declaration is a draft.
        KaggleManagerError: whatever training or simulating raises.
    """
    if declaration.status != "declared":
        raise ConfigError(
            "The declaration of the second study is a draft.",
            safe="nothing was trained.",
            next_step='set its status to "declared" in a commit of its own, then run the command again.',
        )
    train_all(trainings(kept, declaration, base, timesteps), jobs)
    wanted = [place for site in declaration.sites for place in places(declaration, site)]
    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(lambda place: play_missing(kept, declaration, place), wanted):
            pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m validation_ch7.section_7_6_rl_performance.second_study.kept.study", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="trainings, or episodes, at a time; each needs a core")
    parser.add_argument("--workdir", type=Path, default=PROJECT, help="the training trees lie below this folder")
    parser.add_argument("--kept", type=Path, default=FOLDER, help="what is done is kept in this folder")
    parser.add_argument("--keep", action="store_true", help="train and play nothing: keep what is finished, as a run's")
    parser.add_argument("--journal", type=Path, help="with --keep: the manager's journal, which knows the sessions")
    options = parser.parse_args(arguments)
    try:
        kept, declaration = Kept(options.kept), read_declaration()
        if options.keep:
            keep_finished(kept, declaration, options.workdir, options.journal)
        else:
            carry_out(kept, declaration, options.workdir, jobs=options.jobs)
    except KaggleManagerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
