"""Lanes: runs of a campaign share sessions, each with its own tree, result and lineage, and the bits it has alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from small_project import SECTION, TRAINER, Bench, installed, press_ctrl_c

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.errors import CapacityReached, Interrupted, KernelFailed
from kaggle_manager.orchestrator.campaign import Campaign
from kaggle_manager.orchestrator.stop import stop_run
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.platform import SessionRequest, StartedSession
from kaggle_manager.protocol.file_names import RESULT_FILE
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import SessionRow

pytestmark = pytest.mark.slow

SEEDS = (None, 2, 3)


@pytest.fixture
def lanes(bench: Bench) -> Bench:
    bench.edit(f"sections/{SECTION}/section.toml", r"^accelerator = .*$", 'accelerator = "NvidiaTeslaT4"\nlanes = 2')
    return bench


def config_of(bench: Bench, seed: int | None, timesteps: int = 4, **options: Any) -> RunConfig:
    where: dict[str, Any] = {"workdir": bench.workdir, "project_root": bench.project, "platform": bench.platform}
    return build_config(SECTION, seed=seed, timesteps=timesteps, environ={}, **where, **options)


def campaign(bench: Bench, *seeds: int | None, timesteps: int = 4) -> Campaign:
    return Campaign(bench.manager(), [config_of(bench, seed, timesteps) for seed in seeds], bench.told)


def tree_of(bench: Bench, seed: int | None) -> TrainingTree:
    return TrainingTree(config_of(bench, seed).tree, bench.tree.scenario)


def model_of(bench: Bench, seed: int | None) -> bytes:
    final = CheckpointStore(tree_of(bench, seed)).final()
    assert final is not None, bench.output
    return final.read("model")


def sessions_of(bench: Bench) -> dict[int | None, list[SessionRow]]:
    """The sessions of each run in the journal, by its seed."""
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        return {run.settings.get("seed"): journal.sessions(run.run_id) for run in journal.runs()}


def carried(bench: Bench) -> list[int]:
    """How many runs each session of the platform has carried, the fullest first."""
    rows = [session for sessions in sessions_of(bench).values() for session in sessions]
    return sorted(Counter((row.address, row.version) for row in rows).values(), reverse=True)


def as_trained_by(bench: Bench, seed: int | None, text: str) -> None:
    """Let the trainer do something of its own for one seed."""
    main = installed(bench.project) / TRAINER
    changed = f"    if order.seed == {seed}:\n        {text}\n    plan = PLAN.get"
    main.write_text(main.read_text().replace("    plan = PLAN.get", changed, 1))


def test_two_runs_a_session_each_with_its_own_tree_and_the_bits_it_has_alone(lanes: Bench) -> None:
    assert [run.state for run in campaign(lanes, *SEEDS).run().runs] == ["finished"] * 3, lanes.output
    assert carried(lanes) == [2, 2, 1, 1], "three runs of two sessions each, in two lanes"
    heads = [CheckpointStore(tree_of(lanes, seed)).find_latest_checkpoint() for seed in SEEDS]
    assert [head.step for head in heads if head] == [4, 4, 4]
    assert len({head.manifest.lineage.run_id for head in heads if head}) == 3
    shared = [model_of(lanes, seed) for seed in SEEDS]
    lanes.edit(f"sections/{SECTION}/section.toml", r"^lanes = 2$", "")
    lanes.workdir = lanes.workdir.with_name("alone")
    campaign(lanes, *SEEDS).run()
    assert carried(lanes) == [1] * 6
    assert [model_of(lanes, seed) for seed in SEEDS] == shared


def test_a_lane_that_crashes_costs_the_others_nothing(lanes: Bench) -> None:
    as_trained_by(lanes, 2, "raise RuntimeError('a bad seed')")
    with pytest.raises(KernelFailed, match="a bad seed"):
        campaign(lanes, None, 2).run()
    assert [session.outcome for session in sessions_of(lanes)[None]] == ["interrupted", "completed"]
    assert {session.outcome for session in sessions_of(lanes)[2]} == {"crashed"}
    assert model_of(lanes, None)


def test_each_log_has_the_lines_of_its_own_lane_alone(lanes: Bench) -> None:
    for seed, word in ((None, "one"), (2, "two")):
        as_trained_by(lanes, seed, f"print('this is {word}', flush=True)")
    campaign(lanes, None, 2, timesteps=2).run()
    logs = [path.read_text() for path in sorted((lanes.workdir / "downloads").glob("*/generation_1/kernel.log"))]
    assert sorted(re.findall("this is .*", "".join(logs))) == ["this is one", "this is two"]
    assert all(len(re.findall("this is", log)) == 1 and "lane_" not in log for log in logs)


def at(bench: Bench, mark: str, count: int) -> tuple[str, Callable[[], None]]:
    """A hook that presses Ctrl-C at the `count`-th line with this text."""
    return mark, press_ctrl_c if count == 1 else lambda: bench.told.hooks.append(at(bench, mark, count - 1))


@pytest.mark.parametrize(
    ("mark", "count"), [("package session", 2), ("push local/", 1), ("accepted as", 1), ("accepted as", 2)]
)
def test_a_manager_that_is_ended_around_the_start_finds_the_session_again_for_each_run(
    lanes: Bench, mark: str, count: int
) -> None:
    going = campaign(lanes, None, 2)
    for member in going.members:
        going.begin(member)
    lanes.told.hooks.append(at(lanes, mark, count))
    with pytest.raises(Interrupted):
        going.round()
    if mark == "accepted as":
        assert all(sessions_of(lanes).values()), "no intent is taken back of what was started"
    assert [run.state for run in campaign(lanes, None, 2).run().runs] == ["finished"] * 2, lanes.output
    assert carried(lanes) == [2, 2], "no start was made twice, and none was lost"


def test_what_refuses_one_session_refuses_it_to_each_run_and_none_is_called_started(
    lanes: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = [CapacityReached("no room")]

    def start(client: KaggleClient, push: SessionRequest) -> StartedSession:
        if refused:
            raise refused.pop()
        return starts(client, push)

    starts = KaggleClient.start
    monkeypatch.setattr(KaggleClient, "start", start)
    going = campaign(lanes, None, 2)
    for member in going.members:
        going.begin(member)
    going.round()
    assert sessions_of(lanes) == {None: [], 2: []}
    lanes.slept.append(1e4)
    assert [run.state for run in campaign(lanes, None, 2).run().runs] == ["finished"] * 2
    assert carried(lanes) == [2, 2]


def test_a_stop_ends_a_shared_session_when_the_last_of_its_runs_is_stopped(lanes: Bench) -> None:
    lanes.plan(g1="hang")
    going = campaign(lanes, None, 2)
    for member in going.members:
        going.begin(member)
    while not all(member.report and member.report.progress.get("step") for member in going.members):
        going.round()
    said = []
    with closing(Journal(lanes.workdir / "journal.sqlite")) as journal:
        for seed in (None, 2):
            said.append(stop_run(config_of(lanes, seed), lanes.connect, journal, lanes.told, 0.0))
    assert [each.cancelled for each in said] == [False, True]
    assert "is shared with 1 run that continues" in said[0].words
    assert all(session.facts.get("cancel_asked") for [session] in sessions_of(lanes).values())


def test_a_run_that_another_one_led_is_found_from_another_machine(lanes: Bench) -> None:
    campaign(lanes, None, 2).run()
    [(run_id, last)] = [(rows[-1].run_id, rows[-1]) for rows in sessions_of(lanes).values() if rows[-1].led_by]
    lanes.workdir = lanes.workdir.with_name("elsewhere")
    seed = 2 if CheckpointStore(tree_of(lanes, 2)).final() is None else None
    adopted = lanes.manager().adopt(config_of(lanes, seed), run_id)
    assert adopted.generation == last.generation
    assert lanes.manager().run_validation_section(config_of(lanes, seed)).state == "finished"
    assert sessions_of(lanes)[seed][-1].stage is Stage.CLOSED


def test_the_outputs_of_a_lane_lie_in_its_folder_on_the_platform(lanes: Bench) -> None:
    campaign(lanes, None, 2, timesteps=2).run()
    outputs = next(lanes.newest_session().glob("**/lane_1")).parent
    results = [json.loads((Path(outputs) / lane / RESULT_FILE).read_bytes()) for lane in ("lane_1", "lane_2")]
    assert len({result["run_id"] for result in results}) == 2
    assert not (outputs / RESULT_FILE).exists()


def test_runs_that_share_a_session_use_the_users_quota_once(lanes: Bench) -> None:
    lanes.plan(g1="hang")
    configs = [config_of(lanes, seed, quota_per_week="20m") for seed in (None, 2)]
    going = Campaign(lanes.manager(), configs, lanes.told)
    for member in going.members:
        going.begin(member)
    going.round()
    going.round()
    assert [member.is_live for member in going.members] == [True, True], lanes.output
    limits = [row.facts["planned"]["timeout_s"] for rows in sessions_of(lanes).values() for row in rows]
    assert (carried(lanes), limits) == ([2], [1200.0, 1200.0])
