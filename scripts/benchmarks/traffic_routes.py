"""Whether vehicles with routes drive as SUMO would send them: whole episodes with and without, digest by digest.

The environment of the second study gives a vehicle the way that no other avoids (`second_study/routes.py`). Here each
episode is played twice, once with those routes and once with trips only, under the same orders: random ones, kept for
longer or shorter, at several demands, half of them at a signal without yellow or clearance, which gridlocks more often.
The digests are those of the time lost by every vehicle, at every decision. They may differ after the onset of a
gridlock, when the vehicle has come to a stand that blocks the junction, and never before.

    python scripts/benchmarks/traffic_routes.py                     60 episodes at each intersection, some two minutes
    python scripts/benchmarks/traffic_routes.py --episodes 1000 --first 5000
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))  # section 7.6 is this repository's own, and not installed

from validation_ch7.section_7_6_rl_performance.intersection import Intersection  # noqa: E402
from validation_ch7.section_7_6_rl_performance.second_study.environment import SignalEnv  # noqa: E402
from validation_ch7.section_7_6_rl_performance.second_study.episodes import gridlock_onset_s  # noqa: E402
from validation_ch7.section_7_6_rl_performance.second_study.messages import Snapshot  # noqa: E402

DEMANDS, KEEPS_GREEN = (0.8, 1.0, 1.2, 1.5, 2.0), (0.0, 0.3, 0.6, 0.9, 0.99)
RECKLESS = {"yellow_s": 0, "longest_clearance_s": 0, "min_green_s": 1}


def trips_only(site: Intersection, folder: Path) -> Intersection:
    """The same traffic, its trips with a word that says what the simulator's options say, so that they stay trips."""
    text = site.route_file.read_text(encoding="utf-8")
    file = folder / site.route_file.name
    file.write_text(text.replace("<trip ", '<trip departLane="first" '), encoding="utf-8")
    return replace(site, route_file=file)


def play(env: SignalEnv, site: Intersection, seed: int) -> tuple[Snapshot, ...]:
    """What was seen at the ends of an episode's decisions."""
    env.intersection = site
    choose, keeps = random.Random(seed), random.Random(seed).choice(KEEPS_GREEN)
    env.reset(seed=seed)
    wanted, is_over = 0, False
    while not is_over:
        if choose.random() > keeps:
            wanted = choose.randrange(len(site.greens))
        *_, is_over, _ = env.step(wanted)
    return env.history


def first_difference(routed: Sequence[Snapshot], searched: Sequence[Snapshot]) -> int | None:
    """When the digests differ first, in seconds of the simulation."""
    pairs = zip(routed, searched, strict=True)
    return next((here.time_s for here, there in pairs if here.digest != there.digest), None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 1 when an episode differs that has not gridlocked before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--intersection", nargs="+", default=["cologne1", "ingolstadt1"])
    parser.add_argument("--episodes", type=int, default=60, help="at each intersection")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="seed of the first of them")
    options = parser.parse_args(arguments)
    wrong: list[str] = []
    for name in options.intersection:
        gridlocked, after_s = 0, []
        for seed in range(options.first, options.first + options.episodes):
            env = SignalEnv(name, demand=random.Random(-seed).choice(DEMANDS), **(RECKLESS if seed % 2 else {}))
            try:
                site = env.intersection
                with tempfile.TemporaryDirectory() as folder:
                    routed, searched = play(env, site, seed), play(env, trips_only(site, Path(folder)), seed)
            finally:
                env.close()
            onset_s = gridlock_onset_s(searched, site.begin_s)
            gridlocked += onset_s is not None
            if (differs_s := first_difference(routed, searched)) is None:
                continue
            if onset_s is not None and (later_s := differs_s - site.begin_s - onset_s) > 0:
                after_s.append(later_s)
            else:
                wrong.append(f"{name}, seed {seed}, from second {differs_s - site.begin_s} on")
        late = f", {len(after_s)} of these differ, {min(after_s):.0f} s after the onset or later" if after_s else ""
        print(f"{name}: {options.episodes} episodes, {gridlocked} of them gridlocked{late}", flush=True)
    print(f"{len(wrong)} differ: {'; '.join(wrong)}" if wrong else "no digest differs before a gridlock")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
