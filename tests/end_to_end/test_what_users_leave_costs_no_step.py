"""Whatever a user's code leaves in the output folder, in whatever state, the checkpoints come back at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from hostile_outputs import QUIET, HostileRun, Spec, specs
from hypothesis import HealthCheck, Phase, given, settings
from small_project import Bench, installed, make_project

from kaggle_manager.local_kaggle.launcher import ServerInfo
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sessions import bundle, reconcile, watch
from kaggle_manager.status.history import History
from kaggle_manager.status.overview import overview
from kaggle_manager.status.run_status import describe_all

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hostile_run(kaggle_here: ServerInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileRun]:
    folder = tmp_path_factory.mktemp("hostile_run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "FIRST_POLL_S", 0.1)
        patch.setattr(reconcile, "LOOK_EVERY_S", 0.0)
        patch.setattr(bundle, "INSTALLED", installed(folder / "project"))
        run = HostileRun(Bench(make_project(folder / "project"), folder / "work", kaggle_here))
        run.begin()
        yield run


LITERAL: dict[str, tuple[Spec, str]] = {
    "an open file that grows": ({**QUIET, "during": [["growing", "episodes.csv", 0]]}, "episodes.csv; all downloaded"),
    "600 small files as the process ends": (
        {**QUIET, "at exit": [["many", "episodes", 600]]},
        "packed in one of them",
    ),
    "600 small files": ({**QUIET, "during": [["many", "episodes", 600]]}, "packed in one of them"),
}


def test_a_session_killed_whole_beside_more_files_than_a_platform_lists_loses_no_step(hostile_run: HostileRun) -> None:
    """Nobody made room, and everything that is listed sorts before what the trainer wrote."""
    hostile_run.survives({**QUIET, "before": [["many", "a", 600]], "end": "all killed"})
    hostile_run.survives({**QUIET, "before": [["many", "a", 600]], "end": "killed"})


@pytest.mark.parametrize("case", LITERAL)
def test_a_log_of_episodes_costs_no_step_and_is_named(case: str, hostile_run: HostileRun) -> None:
    spec, words = LITERAL[case]
    row = hostile_run.survives(spec)
    assert words in row.facts["caution"]
    caution = row.facts["caution"]
    assert f"session {row.generation} left {caution}" in hostile_run.bench.output
    with closing(Journal(hostile_run.journal)) as journal:
        assert f"    caution: {caution}" in History(tuple(describe_all(journal, 0.0))).lines()
        assert f"  caution: session {row.generation} left {caution}" in overview(journal, None, 0.0).lines()


# The same ones each time; 200 others by scripts/benchmarks/hostile_outputs.py.
@settings(
    max_examples=15,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(spec=specs)
def test_no_folder_costs_a_step(spec: Spec, hostile_run: HostileRun) -> None:
    hostile_run.survives(spec)
