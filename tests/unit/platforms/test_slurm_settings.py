"""What `[platform.slurm]` may say, and what is said of a value that it may not."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.errors import ConfigError
from kaggle_manager.platforms.platform import SessionRef
from kaggle_manager.platforms.slurm.client import SlurmPlatform
from kaggle_manager.platforms.slurm.refusals import refusal
from kaggle_manager.platforms.slurm.settings import read_settings, root_of


@pytest.mark.parametrize(
    ("table", "key", "accepted"),
    [
        ({"time": "12 hours"}, "correct time ", "minutes are accepted"),
        ({"memory": "lots"}, "correct memory ", '"16G"'),
        ({"inputs": {"me/data": "here"}}, "KM_SLURM_INPUTS", "an absolute path on the cluster"),
        ({"queue": "main"}, "accepted are login", "queue = 'main'"),
        ({"time": 0}, "correct time ", "a session needs some time"),
        ({"time": True}, "correct time ", "True cannot be used"),
        ({"folder": "$SCRATCH/sessions"}, "correct folder ", "no shell reads '$SCRATCH' there"),
        ({"folder": "~bob/sessions"}, "correct folder ", "one below ~/"),
        ({"python": "${HOME}/env/bin/python"}, "correct python ", "no shell reads '${HOME}' there"),
        ({"sbatch_options": ["--qos=long", "--arr=1-4"]}, "correct sbatch_options ", "--arr=1-4 is not for it"),
        ({"sbatch_options": ["-t60"]}, "correct sbatch_options ", "for as long as time"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_what_is_accepted(
    table: dict[str, Any], key: str, accepted: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        read_settings(table, {})
    assert key in refused.value.next_step
    assert accepted in refused.value.message
    assert "pattern" not in refused.value.message


def test_what_sbatch_takes_beside_a_session_is_handed_on() -> None:
    words = ("--qos=long", "-p", "gpu", "--time-min=60", "--wait-all-nodes=1", "--comment=project 7")
    assert read_settings({"sbatch_options": words}, {}).sbatch_options == words


def test_a_variable_whose_quotes_are_not_closed_is_named() -> None:
    with pytest.raises(ConfigError, match=r"KM_SLURM_SBATCH_OPTIONS = .* No closing quotation"):
        read_settings({}, {"KM_SLURM_SBATCH_OPTIONS": "--comment='project 7"})


def test_a_time_without_quotes_is_the_duration_that_slurm_reads() -> None:
    assert read_settings(tomllib.loads("time = 12:00:00"), {}).longest_session_s == 12 * 3600


def test_a_variable_that_is_no_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"There is no setting KM_SLURM_PARTITON\."):
        read_settings({}, {"KM_SLURM_PARTITON": "gpu"})


@pytest.mark.parametrize(
    ("table", "root"),
    [
        ({"folder": "sessions"}, "{home}/sessions"),
        ({"folder": "~/sessions"}, "{home}/sessions"),
        ({"folder": "/scratch/ann"}, "/scratch/ann"),
        ({"folder": "sessions", "login": "there"}, "sessions"),
        ({}, "{state}/slurm"),
    ],
)
def test_a_folder_is_the_same_wherever_the_command_is_given(
    table: dict[str, Any], root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.chdir(tmp_path)
    assert root_of(read_settings(table, {}), tmp_path) == root.format(home="/home/ann", state=tmp_path)


def test_the_line_of_sbatch_that_names_the_fault_is_told() -> None:
    said = "sbatch: unrecognized option '--qoss=long'\nTry \"sbatch --help\" for more information\n"
    assert "unrecognized option '--qoss=long'" in refusal(SessionRef("me", "km-one", "1"), said).message
    assert "no reason given" in refusal(SessionRef("me", "km-one", "1"), "\n").message


@pytest.mark.parametrize(
    ("table", "memory"),
    [
        ({}, None),
        ({"memory": "16G"}, 16 * 2**30),
        ({"memory": 500}, 500 * 2**20),
        ({"memory": "0"}, None),
        ({"memory": "16G", "sbatch_options": ["--mem=1G"]}, None),
    ],
)
def test_a_session_has_the_memory_that_its_job_asks_for_and_no_bound_that_is_kaggles(
    table: dict[str, Any], memory: int | None, tmp_path: Path
) -> None:
    limits = SlurmPlatform(table, tmp_path, {}).limits()
    assert (limits.memory_bytes, limits.output_bytes, limits.output_files) == (memory, None, None)
