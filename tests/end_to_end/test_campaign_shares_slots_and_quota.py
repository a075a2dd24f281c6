"""Several seeds as one campaign: each its own lineage and tree, on every slot there is, the ones behind first."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from small_project import SECTION, TRAINER, Bench, installed

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.errors import (
    BundleTooLarge,
    CheckpointIncompatible,
    ConfigError,
    KernelFailed,
    QuotaError,
    Unavailable,
)
from kaggle_manager.orchestrator.campaign import Campaign, Member, seeds_of
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.models import ROOM
from kaggle_manager.platforms.platform import SessionRef, SessionRequest, StartedSession
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sessions.bundle import order_of
from kaggle_manager.status.forecast import forecast_run
from kaggle_manager.status.report import LIVE

pytestmark = pytest.mark.slow

SEEDS = (None, 2, 3)


def config_of(bench: Bench, timesteps: int, section: str = SECTION, **options: Any) -> RunConfig:
    where: dict[str, Any] = {"workdir": bench.workdir, "project_root": bench.project, "platform": bench.platform}
    return build_config(section, timesteps=timesteps, environ={}, **where, **options)


def campaign(bench: Bench, timesteps: int, seeds: Iterable[int | None] = SEEDS) -> Campaign:
    configs = [config_of(bench, timesteps, seed=seed) for seed in seeds]
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


def test_members_whose_target_is_refused_stay_finished(bench: Bench) -> None:
    campaign(bench, 2).run()
    bench.edit(f"sections/{SECTION}/section.toml", r"^net_arch = .*$", "net_arch = [128, 128]")
    with pytest.raises(CheckpointIncompatible):
        campaign(bench, 4).run()
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        assert [(run.outcome, run.target) for run in journal.runs()] == [("finished", 2)] * 3


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


def test_on_the_cpu_five_sessions_run_at_once(bench: Bench) -> None:
    bench.edit(f"sections/{SECTION}/section.toml", "^accelerator = .*$", "")
    bench.plan(g1="hang")
    started = campaign(bench, 4, (None, 2, 3, 4, 5, 6))
    for member in started.members:
        started.begin(member)
    started.round()
    started.round()
    assert [member.is_live for member in started.members] == [True] * 5 + [False]
    connection = bench.connect(started.configs[0])
    assert connection.client.live(connection.owner) == {"CPU": 5}


def test_members_that_crash_that_are_refused_and_whose_section_is_broken_do_not_hold_up_the_others(
    bench: Bench,
) -> None:
    class Refusing(KaggleClient):
        def start(self, push: SessionRequest) -> StartedSession:
            if (order_of(push.source) or {}).get("seed") == 3:
                raise BundleTooLarge("The source is too large.")
            return super().start(push)

    bench.make_client = Refusing
    main = installed(bench.project) / TRAINER
    crash = "    if order.seed == 2:\n        raise RuntimeError('bad seed')\n    plan = PLAN.get"
    main.write_text(main.read_text().replace("    plan = PLAN.get", crash, 1))
    broken = bench.project / "sections/broken"
    shutil.copytree(bench.project / "sections" / SECTION, broken)
    toml = broken / "section.toml"
    toml.write_text(toml.read_text().replace(f'name = "{SECTION}"', 'name = "broken"'))
    going = campaign(bench, 2, (None, 2, 3, 4))
    other = config_of(bench, 2, "broken")
    (broken / "environment.py").write_text("this is no Python")
    going.members.append(Member(other))
    with pytest.raises(KernelFailed, match="bad seed"):
        going.run()
    errors = [type(member.error) for member in going.members]
    assert errors == [type(None), KernelFailed, BundleTooLarge, type(None), ConfigError], bench.output
    assert [going.members[n].report.state for n in (0, 3)] == ["finished"] * 2  # type: ignore[union-attr]


def test_the_seeds_are_those_the_study_declared(bench: Bench) -> None:
    small = build_config(SECTION, project_root=bench.project, environ={})
    assert seeds_of(small, 3) == [None, 2, 3]
    declared = small.section.model_copy(update={"study": {"training_seeds": [7, 1, 9]}})
    assert seeds_of(replace(small, section=declared), 2) == [7, None]
    other = small.scenario.model_copy(update={"seed": 40})
    named = small.section.model_copy(update={"scenarios": {**small.section.scenarios, "other": other}})
    assert seeds_of(replace(small, section=named, scenario_name="other"), 2) == [None, 41], "as KM_SCENARIO may name it"


def test_the_users_quota_holds_over_all_runs_also_where_the_platform_has_none(bench: Bench) -> None:
    bench.edit(f"sections/{SECTION}/section.toml", "^accelerator = .*$", "")
    bench.plan(g1="hang")
    first, second = (config_of(bench, 4, seed=seed, quota_per_week="20m") for seed in (None, 2))
    manager = bench.manager()
    assert manager.tick(first).state in LIVE
    with pytest.raises(QuotaError, match="what --quota-per-week allows are left this week") as waits:
        manager.tick(second)
    assert "waiting for the reset, or for a larger --quota-per-week" in waits.value.message
    assert "continues" in waits.value.next_step
    with closing(Journal(second.journal)) as journal:
        seen = forecast_run(second, bench.connect, journal, time.time())
        assert "quota: 0.0 h left this week of what --quota-per-week allows, fresh on " in "\n".join(seen.lines())
    assert manager.tick(config_of(bench, 4, seed=2, quota_per_week="50m")).state in LIVE
    with closing(Journal(second.journal)) as journal:
        limits = [journal.sessions(run.run_id)[0].facts["planned"]["timeout_s"] for run in journal.runs()]
        assert [run.settings["quota_per_week_s"] for run in journal.runs()] == [1200.0, 3000.0]
    assert limits == [1200.0, 1800.0], "the first has taken all that it may last"


def test_two_runs_that_start_at_the_same_moment_do_not_go_beyond_the_users_quota(bench: Bench) -> None:
    first, second = (config_of(bench, 4, seed=seed, quota_per_week="20m") for seed in (None, 2))
    bench.plan(g1="hang")

    class Slow(KaggleClient):
        def newest(self, owner: str, slug: str) -> tuple[SessionRef, str] | None:
            bench.make_client = KaggleClient
            assert bench.manager().tick(first).state in LIVE, "while the other is planned and not pushed yet"
            return super().newest(owner, slug)

    bench.make_client = Slow
    with pytest.raises(QuotaError, match="what --quota-per-week allows"):
        bench.manager().tick(second)
    with closing(Journal(second.journal)) as journal:
        assert sorted(len(journal.sessions(run.run_id)) for run in journal.runs()) == [0, 1]
