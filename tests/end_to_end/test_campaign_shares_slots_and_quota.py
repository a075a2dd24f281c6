"""Several seeds as one campaign: each its own lineage and tree, two sessions at once, the ones behind first."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace

import pytest
from small_project import SECTION, TRAINER, Bench, installed

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.errors import KernelFailed, Unavailable
from kaggle_manager.orchestrator.campaign import Campaign, seeds_of
from kaggle_manager.platforms.kaggle.models import ROOM
from kaggle_manager.runs.journal import Journal

pytestmark = pytest.mark.slow

SEEDS = (None, 2, 3)


def campaign(bench: Bench, timesteps: int) -> Campaign:
    where = {"workdir": bench.workdir, "project_root": bench.project, "platform": bench.platform}
    configs = [build_config(SECTION, seed=seed, timesteps=timesteps, environ={}, **where) for seed in SEEDS]
    return Campaign(bench.manager(), configs, bench.told)


def tree_of(bench: Bench, seed: int | None) -> TrainingTree:
    name = "models" if seed is None else f"models_seed_{seed}"
    return TrainingTree(bench.workdir / "sections" / SECTION / "data" / name, bench.tree.scenario)


def test_every_member_reaches_the_target_in_a_tree_and_a_lineage_of_its_own(bench: Bench) -> None:
    seen = campaign(bench, 4).run()
    assert [run.state for run in seen.runs] == ["finished"] * 3
    heads = [CheckpointStore(tree_of(bench, seed)).find_latest_checkpoint() for seed in SEEDS]
    assert [head.step for head in heads if head] == [4, 4, 4]
    assert len({head.manifest.lineage.run_id for head in heads if head}) == 3
    assert {head.manifest.identity["seed"] for head in heads if head} == {1, 2, 3}
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        assert [run.settings.get("seed") for run in journal.runs()] == list(SEEDS)
    assert "refused" not in bench.output
    assert "seed 3: [CHECKPOINT]" in bench.output, "each line says of which member it is"


def test_no_more_sessions_than_slots_run_at_once_and_the_one_behind_goes_first(bench: Bench) -> None:
    bench.plan(g1="hang")
    started = campaign(bench, 4)
    for member in started.members:
        bench.manager().go_on(member.config)
    started.round()
    started.round()
    assert [member.is_live for member in started.members] == [True, True, False]
    assert sum(member.is_live for member in started.members) == ROOM["GPU"]


def test_a_member_that_the_platform_refuses_at_the_start_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    going = campaign(bench, 2)
    refused = [Unavailable("no answer")]
    carry_on = going.manager.go_on

    def once_refused(config: RunConfig) -> None:
        if refused:
            raise refused.pop()
        carry_on(config)

    monkeypatch.setattr(going.manager, "go_on", once_refused)
    monkeypatch.setattr(going, "clock", lambda: time.time() + 1e6)
    assert [run.state for run in going.run().runs] == ["finished"] * 3


def test_a_member_that_needs_a_person_does_not_hold_up_the_others(bench: Bench) -> None:
    main = installed(bench.project) / TRAINER
    good = main.read_text()
    main.write_text(
        good.replace("def session(order", "def session(order", 1).replace(
            "    plan = PLAN.get",
            "    if order.seed == 2:\n        raise RuntimeError('bad seed')\n    plan = PLAN.get",
            1,
        )
    )
    going = campaign(bench, 2)
    with pytest.raises(KernelFailed, match="bad seed"):
        going.run()
    assert [member.report.state if member.report else "" for member in going.members][::2] == ["finished"] * 2


def test_the_seeds_are_those_the_study_declared(bench: Bench) -> None:
    small = build_config(SECTION, project_root=bench.project, environ={})
    assert seeds_of(small, 3) == [None, 2, 3]
    declared = small.section.model_copy(update={"study": {"training_seeds": [7, 1, 9]}})
    assert seeds_of(replace(small, section=declared), 2) == [7, None]
    other = small.scenario.model_copy(update={"seed": 40})
    named = small.section.model_copy(update={"scenarios": {**small.section.scenarios, "other": other}})
    assert seeds_of(replace(small, section=named, scenario_name="other"), 2) == [None, 41], "as KM_SCENARIO may name it"
