"""Run configuration: flags before variables before defaults, and a clear word for what cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.config import RunConfig, build_config, seconds_of, state_folder
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.project import find_project
from kaggle_manager.sessions.image_view import hidden_from

ROOT = Path(__file__).resolve().parents[2]
SECTION = "section_7_6_rl_performance"


def config(**flags: object) -> RunConfig:
    return build_config(SECTION, environ={}, **flags)  # type: ignore[arg-type]


def test_flags_win_over_variables_and_variables_over_defaults() -> None:
    environ = {"KM_TIMESTEPS": "500", "KM_SCENARIO": "traffic_light_control"}
    from_variable = build_config(SECTION, environ=environ)
    assert (from_variable.target, from_variable.sources["timesteps"]) == (500, "environment variable KM_TIMESTEPS")
    from_flag = build_config(SECTION, environ=environ, timesteps=7)
    assert (from_flag.target, from_flag.sources["timesteps"]) == (7, "flag")
    assert config().target == config().scenario.timesteps


def test_quick_has_a_tree_of_its_own_and_two_sessions() -> None:
    quick, full = config(quick=True), config()
    assert (quick.target, quick.max_steps, quick.save_every) == (2, 1, 1)
    assert quick.tree != full.tree
    assert not quick.tree.is_relative_to(full.tree)
    assert full.tree == ROOT / "validation_ch7" / SECTION / "data/models"


def test_a_rehearsal_stays_one_whatever_the_variables_say() -> None:
    quick = build_config(SECTION, environ={"KM_TIMESTEPS": "5000000"}, quick=True)
    assert (quick.target, quick.max_steps, quick.sources["timesteps"]) == (2, 1, "section.toml or default")
    assert build_config(SECTION, environ={"KM_TIMESTEPS": "50"}, quick=True, timesteps=6).target == 6


def test_everything_a_run_writes_goes_below_its_workdir(tmp_path: Path) -> None:
    one = config(workdir=tmp_path)
    assert all(p.is_relative_to(tmp_path) for p in (one.state, one.tree, one.journal, one.downloads, one.local_kaggle))


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("90m", 5400), ("11h30m", 41400), ("45", 45), (12, 12), ("1.5h", 5400)]
)
def test_durations(text: str | float, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "-3s", "1h-2m", "h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a duration"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ({"timesteps": -5}, "whole number of at least 1"),
        ({"timesteps": 0}, "whole number of at least 1"),
        ({"session_limit": "1s"}, "session limit of 1 s"),
        ({"session_limit": "13h"}, "session limit"),
        ({"quota_per_week": "20"}, "20 s of sessions a week"),
        ({"quota_per_week": "lots"}, "not a duration"),
        ({"platform": "colab"}, "accepted: auto, local, kaggle"),
        ({"scenario": "nope"}, "no scenario 'nope'"),
    ],
)
def test_what_cannot_be_done_is_a_configuration_error(flags: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        config(**flags)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KM_SCENARIO", "nope"),
        ("KM_TIMESTEPS", "abc"),
        ("KM_SESSION_LIMIT", "banana"),
        ("KM_SESSION_LIMIT", "1s"),
        ("KM_QUOTA_PER_WEEK", "banana"),
        ("KM_QUOTA_PER_WEEK", "9m"),
        ("KM_PLATFORM", "moon"),
        ("KM_WORKDIR", " "),
        ("KM_KEEP_GB", "lots"),
        ("KM_KEEP_GB", "-1"),
        ("KM_KEEP_GB", "nan"),
    ],
)
def test_what_a_variable_says_wrongly_is_told_with_its_name(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build_config(SECTION, environ={variable: value})
    assert f"(from {variable})" in refused.value.message
    assert refused.value.safe.startswith("nothing was started")
    assert refused.value.next_step.endswith(f", or unset {variable}")


def test_what_a_flag_says_wrongly_is_not_put_on_the_variable() -> None:
    with pytest.raises(ConfigError) as refused:
        build_config(SECTION, session_limit="banana", environ={"KM_SESSION_LIMIT": "1h"})
    assert "KM_" not in str(refused.value)


def test_an_unknown_scenario_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="traffic_light_control"):
        config(scenario="nope")


def test_an_unknown_section_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match=SECTION):
        build_config("section_9", environ={})


@pytest.mark.parametrize("name", ["~nobody_of_this_name/x", "a\0b"])
def test_a_folder_that_cannot_be_is_refused_in_words(name: str) -> None:
    with pytest.raises(ConfigError, match="names no folder"):
        build_config(SECTION, environ={"KM_WORKDIR": name}, project_root=ROOT)
    with pytest.raises(ConfigError, match="names no folder"):
        state_folder(None, {"KM_WORKDIR": name})
    with pytest.raises(ConfigError, match="KM_PROJECT"):
        find_project(ROOT, environ={"KM_PROJECT": name})


def test_what_kaggles_image_lacks_is_missing_on_kaggle_alone() -> None:
    """What sessions elsewhere have nobody knows here; and a session there may be as long as that platform lets it."""
    on_kaggle, elsewhere = config(platform="kaggle"), config(platform="slurm", session_limit="48h")
    assert hidden_from(on_kaggle.section)
    assert not hidden_from(elsewhere.section)
    assert elsewhere.session_limit_s == 48 * 3600.0
    assert not hidden_from(config(platform="module.of_mine:Platform").section)
    assert not hidden_from(config().at_home("slurm").section), "where its run is"


def test_a_quota_of_the_users_is_an_option_a_variable_or_in_section_toml(tmp_path: Path) -> None:
    folder = tmp_path / "sections" / "toy"
    folder.mkdir(parents=True)
    toml = 'name = "toy"\ntitle = "Toy"\ntrains = true\ndefault_scenario = "fit"\nquota_per_week = "{}"\n'
    toml += '[scenarios.fit]\nscript = "train.py"\ntarget = 40\nmodels = "models"\nquick = {{ models = "quick" }}\n'
    (folder / "section.toml").write_text(toml.format("20h"))

    def quota(**given: Any) -> tuple[float | None, str]:
        built = build_config("toy", project_root=tmp_path, **given)
        return built.quota_per_week_s, built.sources["quota_per_week"]

    assert config().quota_per_week_s is None
    assert quota(environ={}) == (20 * 3600.0, "section.toml or default")
    said = {"KM_QUOTA_PER_WEEK": "90m"}
    assert quota(environ=said) == (5400.0, "environment variable KM_QUOTA_PER_WEEK")
    assert quota(environ=said, quota_per_week="1h30m") == (5400.0, "flag")
    (folder / "section.toml").write_text(toml.format("20"))
    with pytest.raises(ConfigError, match="quota_per_week: given '20'; accepted: a duration such as 20h"):
        quota(environ={})


def test_an_unfinished_run_keeps_the_quota_that_was_said_for_it() -> None:
    stored = {"quota_per_week_s": 7200.0}
    assert config().with_stored(4, stored).quota_per_week_s == 7200.0
    assert config().with_stored(4, {}).quota_per_week_s is None
    assert config(quota_per_week="30h").with_stored(4, stored).quota_per_week_s == 30 * 3600.0
