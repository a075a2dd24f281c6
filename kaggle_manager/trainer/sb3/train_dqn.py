"""Train a section's scenario on this machine, resuming by itself: `python -m kaggle_manager.trainer.sb3.train_dqn`.

The same trainer as in a session: the training tree is the project's own (or lies below `--workdir`), and calling
it again continues where it stopped. The algorithm is the section's; the name is that of the section it was made for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kaggle_manager.errors import Diverged, Interrupted, KaggleManagerError, UntrustedTree, error_context
from kaggle_manager.system.arguments import ArgumentParser
from kaggle_manager.trainer.runtime.session_clock import SessionClock, session_limit, stop_signals
from kaggle_manager.trainer.sb3.local_training import IF_TRUSTED, again, open_project, train_here, tree_of

MOST_TIMESTEPS = 10**12
DEFAULT_SECTION = "section_7_6_rl_performance"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train towards the target; return 0 when it is reached or the session ended in good order."""
    given = sys.argv[1:] if arguments is None else [*arguments]
    options = _parser().parse_args(given)
    clock = SessionClock(options.session_limit)
    try:
        with (
            stop_signals(clock),
            error_context(Diverged, next_step=lambda text: f"{text.rstrip('.')}: {again(_parser(), given, '--fresh')}"),
            error_context(UntrustedTree, next_step=lambda _: f"{IF_TRUSTED}: {again(_parser(), given, '--trust')}"),
        ):
            return _train(options, clock)
    except KeyboardInterrupt:
        error: KaggleManagerError = Interrupted(
            "Interrupted.", safe="the newest checkpoint is intact.", next_step="run the same command again to resume."
        )
    except KaggleManagerError as raised:
        error = raised
    print(error, file=sys.stderr)
    return error.exit_code


def _train(options: argparse.Namespace, clock: SessionClock) -> int:
    project, section = open_project(options.section)
    name = options.scenario or section.default_scenario or ""
    base = (options.workdir or project).expanduser().resolve()
    outcome = train_here(
        project,
        section,
        name,
        base=base,
        clock=clock,
        quick=options.quick,
        fresh=options.fresh,
        timesteps=options.timesteps,
        save_every=options.save_every,
        trust=options.trust,
        accept_changes=options.accept_changes,
    )
    if outcome.kind == "interrupted":
        print(f"Interrupted, resumable: {outcome.reason}. The same command continues from step {outcome.step}.")
    else:
        print(f"Done: {outcome.step} timesteps, in {tree_of(project, section, name, base, quick=options.quick).root}.")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m kaggle_manager.trainer.sb3.train_dqn", description=__doc__)
    parser.add_argument(
        "--timesteps", type=_positive, help="the total to reach, over all calls; default: the section's"
    )
    parser.add_argument(
        "--save-every", type=_positive, metavar="N", help="timesteps between checkpoints; default: by the total"
    )
    parser.add_argument("--scenario", help="default: the section's default scenario")
    parser.add_argument("--section", default=DEFAULT_SECTION)
    parser.add_argument("--workdir", type=Path, help="everything is written below this folder; default: the project")
    parser.add_argument(
        "--quick", action="store_true", help="a few timesteps in a tree of their own, to try everything"
    )
    parser.add_argument("--fresh", action="store_true", help="start from zero; an existing tree is moved aside")
    parser.add_argument(
        "--trust", action="store_true", help="continue a tree that was made elsewhere: what its pickles say is run"
    )
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="continue though the environment or the reward was changed, on purpose; the checkpoints say so",
    )
    parser.add_argument(
        "--session-limit", type=session_limit, metavar="60s", help="stop in good order within this time"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_TIMESTEPS:
        raise argparse.ArgumentTypeError(f"{text} is not a number of timesteps (1 to {MOST_TIMESTEPS:,})")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
