"""The examples of docs/scripts.md, each with its real framework: three sessions, one asked to stop and one killed at
random moments, end like one that nobody touched, bit for bit."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from script_sessions import FRAMEWORKS, SIZES, Sessions, saving_often, strikes_at_random

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="fork and SIGKILL")]


@pytest.fixture(scope="module", params=sorted(FRAMEWORKS))
def framework(request: pytest.FixtureRequest) -> str:
    for name in FRAMEWORKS[request.param]:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            pytest.skip(f"{request.param}: needs the extra `frameworks`, {name} is not installed")
    return str(request.param)


@pytest.fixture(scope="module")
def sessions(framework: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sessions]:
    folder = tmp_path_factory.mktemp(framework)
    with Sessions(saving_often(framework, folder), folder / "work", FRAMEWORKS[framework]) as made:
        yield made


def test_three_sessions_with_a_stop_and_a_kill_end_like_an_untouched_one(framework: str, sessions: Sessions) -> None:
    target, _ = SIZES[framework]
    seed = time.time_ns()
    whole = sessions.chain("whole", TARGET=target, SEED=3)
    strikes = strikes_at_random(target, random.Random(seed))
    cut = sessions.chain("cut", strikes, TARGET=target, SEED=3)
    assert cut.codes == [*(-9 if each.number == signal.SIGKILL else 0 for each in strikes), 0], said(cut.folder)
    assert whole.step == cut.step >= target
    assert cut.difference(whole) == [], (seed, strikes)


def said(folder: Path) -> str:
    return "\n".join(path.read_text()[-2000:] for path in sorted(folder.rglob("said.txt")))
