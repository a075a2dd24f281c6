"""A section.toml is complete and consistent, or refused with the file, the key, the value and what is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_manager.config import build_config
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.agent_tables import Evaluation
from kaggle_manager.sections.model import load_section
from kaggle_manager.sections.project import find_sections, get_section

ROOT = Path(__file__).resolve().parents[3]

GOOD = """
name = "section_x"
title = "X"
trains = true
default_scenario = "first"

[kernel]
accelerator = "NvidiaTeslaT4"
packages = ["gymnasium==1.4.0"]
include = ["library"]

[scenarios.first]
environment = "package.module:Env"
environment_files = ["environment.py"]
reward_files = ["reward.py"]
algorithm = "DQN"
timesteps = 1000
models = "data/models"
environment_kwargs = { horizon = 600, nested = { a = 1, b = 2 } }
hyperparameters = { gamma = 0.9, policy_kwargs = { net_arch = [8, 8] } }

[scenarios.first.quick]
models = "data/models_quick"
evaluation = { episodes = 1, every = 1 }
hyperparameters = { learning_starts = 0 }
environment_kwargs = { horizon = 60, nested = { b = 3 } }
"""

SECOND = GOOD[GOOD.index("[scenarios.first]") :].replace(".first", ".second")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sections" / "section_x" / "section.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_sections_of_this_project_are_valid() -> None:
    sections = find_sections(ROOT)
    assert "section_7_6_rl_performance" in sections
    for path in sections.values():
        load_section(path)


def test_section_7_6_trains_dqn_on_traffic_lights_by_default() -> None:
    section = get_section(ROOT, "section_7_6_rl_performance")
    assert section.trains
    assert section.default_scenario == "traffic_light_control"
    assert section.scenario().algorithm == "DQN"
    assert section.scenario().timesteps == 100_000


def test_every_source_and_bundle_path_of_this_project_exists() -> None:
    for path in find_sections(ROOT).values():
        section = load_section(path)
        for scenario in section.scenarios.values():
            for name in (*scenario.environment_files, *scenario.reward_files):
                assert (path.parent / name).is_file(), name
        for name in section.kernel.include:
            assert (ROOT / name).exists(), name


def test_kernel_packages_are_the_tested_versions() -> None:
    pins = set((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    for path in find_sections(ROOT).values():
        packages = load_section(path).kernel.packages
        assert set(packages) <= pins
        assert not any(package.startswith("torch==") for package in packages)


def test_quick_merges_tables_and_replaces_the_rest(tmp_path: Path) -> None:
    scenario = load_section(write(tmp_path, GOOD)).scenario()
    quick = scenario.for_quick()
    assert (quick.timesteps, quick.save_every, quick.models) == (2, 1, "data/models_quick")
    assert (quick.evaluation.episodes, quick.evaluation.every, quick.evaluation.deterministic) == (1, 1, True)
    assert quick.hyperparameters == {"gamma": 0.9, "policy_kwargs": {"net_arch": [8, 8]}, "learning_starts": 0}
    assert quick.environment_kwargs == {"horizon": 60, "nested": {"a": 1, "b": 3}}
    assert scenario.timesteps == 1000
    assert quick.for_quick() == quick


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('algorithm = "DQN"', 'algorithm = "dqn"', ["scenarios.first.algorithm", "'dqn'", "DQN", "A2C"]),
        ("timesteps = 1000", "timesteps = -5", ["scenarios.first.timesteps", "-5", "greater than 0"]),
        ("timesteps = 1000", 'timesteps = "1000"', ["scenarios.first.timesteps", "'1000'", "integer"]),
        ("timesteps = 1000", "timestep = 1000", ["scenarios.first.timestep:", "not a key", "timesteps", "required"]),
        ("timesteps = 1000", "timesteps = 1000\nn_env = 4", ["first.n_env:", "did you mean n_envs?"]),
        ("timesteps = 1000", "timesteps = 1000\nworkers = 4", ["first.workers:", "accepted here", "extends"]),
        (
            "timesteps = 1000",
            "timesteps = 1000\ndivergence = { reward_below = nan }",
            ["divergence.reward_below", "finite"],
        ),
        ("timesteps = 1000", "timesteps = 1000\ndivergence = { below = 1 }", ["divergence.below", "reward_below"]),
        ("timesteps = 1000", "timesteps = 1000\nstop_when = { session_hours = 0 }", ["stop_when.session_hours", "0"]),
        ("timesteps = 1000", "timesteps = 1000\nstop_when = { score = 1 }", ["stop_when.score", "reward"]),
        ("[kernel]", "[platform.slurn]\ntime = 1\n[kernel]", ["platform", "slurn", '"module:Class"']),
        ("[kernel]", "[platform]\nslurm = 1\n[kernel]", ["platform.slurm", "1"]),
        ('title = "X"', 'title = "X"\nplatform = "slurm"', ["platform", "--platform or KM_PLATFORM says"]),
        ("gymnasium==1.4.0", "gymnasium>=1.4", ["kernel.packages.0", "gymnasium>=1.4", "name==version"]),
        (
            '"gymnasium==1.4.0"',
            '"My_Robot[all]==1.0", "gymnasium==1.4.0", "my.robot==2.0"',
            ["kernel.packages", "one pin of each package", "My_Robot[all]==1.0 and my.robot==2.0"],
        ),
        ("package.module:Env", "package.module.Env", ["scenarios.first.environment", "module:callable"]),
        ('"data/models"', '"../models"', ["scenarios.first.models", "'../models'", "stays inside"]),
        ('"data/models"', '"/data/models"', ["scenarios.first.models", "'/data/models'", "stays inside"]),
        ('"data/models"', '"C:/models"', ["scenarios.first.models", "'C:/models'", "stays inside"]),
        ('["library"]', '["a/../../b"]', ["kernel.include.0", "'a/../../b'", "stays inside"]),
        ('"data/models_quick"', '"data/models"', ["first.quick.models", "training tree of first.models"]),
        ('"data/models_quick"', '"data/Models/quick"', ["first.quick.models", "training tree of first.models"]),
        ('"data/models_quick"', '"data/models_seed_12"', ["first.quick.models", "training tree of first.models"]),
        ('"data/models"', '"data/models_quick_seed_0"', ["first.quick.models", "training tree of first.models"]),
        ("episodes = 1,", "episodes = 0,", ["scenarios.first.quick", "evaluation.episodes", "0", "greater than 0"]),
        ('default_scenario = "first"', 'default_scenario = "last"', ["default_scenario", "'last'", "accepted: first"]),
        ('name = "section_x"', 'name = "section_y"', ["name", "'section_y'", "'section_x'"]),
        ("trains = true", "trains =", ["not valid TOML", "line 4"]),
    ],
)
def test_what_is_wrong_is_said_in_full(tmp_path: Path, old: str, new: str, said: list[str]) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as refused:
        load_section(path)
    for part in [str(path), *said]:
        assert part in str(refused.value)


def test_a_bound_on_divergence_holds_for_the_training_and_not_for_a_quick_run(tmp_path: Path) -> None:
    text = GOOD.replace("timesteps = 1000", "timesteps = 1000\ndivergence = { reward_below = -500 }", 1)
    scenario = load_section(write(tmp_path, text)).scenario()
    assert scenario.divergence.reward_below == -500.0
    assert scenario.for_quick().divergence.reward_below is None


def test_what_is_enough_holds_for_the_training_and_not_for_a_quick_run(tmp_path: Path) -> None:
    text = GOOD.replace("timesteps = 1000", "timesteps = 1000\nstop_when = { reward = 475.0, session_hours = 3.0 }", 1)
    scenario = load_section(write(tmp_path, text)).scenario()
    assert (scenario.stop_when.reward, scenario.stop_when.session_hours) == (475.0, 3.0)
    assert not scenario.for_quick().stop_when.model_dump(exclude_none=True)


def test_two_scenarios_never_share_a_training_tree(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"second\.models.*training tree of first\.models"):
        load_section(write(tmp_path, GOOD + SECOND))
    apart = SECOND.replace("data/models", "data/second")
    assert set(load_section(write(tmp_path, GOOD + apart)).scenarios) == {"first", "second"}


def test_unknown_names_list_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(ConfigError, match="choose one of: section_x"):
        get_section(tmp_path, "section_z")
    with pytest.raises(ConfigError, match="choose one of: first"):
        get_section(tmp_path, "section_x").scenario("ramp_metering")


def test_another_section_is_a_folder_with_a_file_and_is_offered_once_it_is_finished(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    new = tmp_path / "sections" / "section_7_7_ramp_metering"
    new.mkdir()

    def offered() -> bool:
        with pytest.raises(ConfigError) as found:
            get_section(tmp_path, "section_z")
        return (
            found.value.next_step
            == "choose one of: section_7_7_ramp_metering, section_x; or make it: km init section_z"
        )

    assert not offered(), "a folder without a section.toml"
    text = GOOD.replace("section_x", new.name)
    for unfinished in ("name = ", text.replace("trains = true", "trains = false")):
        (new / "section.toml").write_text(unfinished, encoding="utf-8")
        assert not offered()
    with pytest.raises(ConfigError, match="does not train anything") as refused:
        build_config(new.name, environ={}, project_root=tmp_path)
    assert refused.value.next_step == "choose one of: section_x"
    (new / "section.toml").write_text(text, encoding="utf-8")
    assert offered()
    assert build_config(new.name, environ={}, project_root=tmp_path).target == 1000


def test_a_byte_order_mark_of_a_windows_editor_is_read_over(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_section(path).trains


def test_a_missing_or_unreadable_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_section(tmp_path / "section.toml")
    path = write(tmp_path, "")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_section(path)


def test_a_scenario_can_extend_another_and_name_only_what_differs(tmp_path: Path) -> None:
    short = """
[scenarios.second]
extends = "first"
models = "data/second"
environment_kwargs = { horizon = 900 }
quick = { models = "data/second_quick" }
"""
    scenarios = load_section(write(tmp_path, GOOD + short)).scenarios
    first, second = scenarios["first"], scenarios["second"]
    assert second.environment_kwargs == {"horizon": 900, "nested": {"a": 1, "b": 2}}
    assert second.hyperparameters == first.hyperparameters
    assert second.for_quick().environment_kwargs == first.for_quick().environment_kwargs
    assert (second.models, second.for_quick().models) == ("data/second", "data/second_quick")


@pytest.mark.parametrize("base", ["third", "second"])
def test_extending_what_is_not_there_or_extends_itself_is_refused(tmp_path: Path, base: str) -> None:
    path = write(tmp_path, GOOD + f'[scenarios.second]\nextends = "{base}"\nmodels = "data/second"\n')
    with pytest.raises(ConfigError, match=rf"second\.extends: given '{base}'; accepted: first"):
        load_section(path)


def test_another_seed_trains_in_a_tree_of_its_own(tmp_path: Path) -> None:
    text = GOOD.replace("timesteps = 1000", "timesteps = 1000\nseed = 42")
    scenario = load_section(write(tmp_path, text)).scenario()
    assert scenario.for_seed(42) == scenario
    other = scenario.for_seed(43)
    assert (other.seed, other.models) == (43, "data/models_seed_43")


def test_each_intersection_of_section_7_6_is_a_scenario_with_its_own_tree() -> None:
    scenarios = get_section(ROOT, "section_7_6_rl_performance").scenarios
    agents = [scenario for scenario in scenarios.values() if "intersection" in scenario.environment_kwargs]
    found = {scenario.environment_kwargs["intersection"]: scenario for scenario in agents}
    assert set(found) == {"synthetic", "cologne1", "ingolstadt1"}
    assert len({scenario.models for scenario in found.values()}) == 3
    # Published runs are of 100 episodes; evaluating must not cost more than a fraction of them.
    for name in ("cologne1", "ingolstadt1"):
        evaluation = found[name].evaluation
        assert found[name].timesteps == 36_000
        assert evaluation.every is not None
        assert found[name].timesteps // evaluation.every * evaluation.episodes <= 30


def test_a_shorter_training_is_evaluated_as_often() -> None:
    section = get_section(ROOT, "section_7_6_rl_performance")
    scenario = section.scenario("traffic_light_control_cologne1")
    scenario = scenario.model_copy(update={"evaluation": Evaluation(every=3_600)})
    assert [scenario.evaluates_every(total) for total in (36_000, 72_000, 3_600, 3)] == [3_600, 3_600, 360, 1]
    assert scenario.model_copy(update={"evaluation": Evaluation()}).evaluates_every(1_000) is None
