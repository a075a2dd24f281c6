"""One list of Kaggle's machines: what section.toml accepts, what a session finds, what the local Kaggle gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_manager.cli.doctor import machine
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.model import Kernel, load_section
from kaggle_manager.system import accelerators

SECTION = """
name = "section_x"
title = "X"
trains = false
[kernel]
accelerator = "{}"
"""


def refusal(tmp_path: Path, name: str) -> str:
    path = tmp_path / "section_x" / "section.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(SECTION.format(name), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_section(path)
    return str(refused.value)


@pytest.mark.parametrize("name", accelerators.TRAINS_ON)
def test_every_gpu_that_kaggle_names_is_accepted(name: str) -> None:
    assert Kernel(accelerator=name).accelerator == name


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("T4", "NvidiaTeslaT4"),
        ("t4x2", "NvidiaTeslaT4"),
        ("nvidiateslat4", "NvidiaTeslaT4"),
        ("NvidiaTeslaT5", "NvidiaTeslaT4"),
        ("GPU T4 x2", "NvidiaTeslaT4"),
        ("L4", "NvidiaL4"),
        ("P100", "NvidiaTeslaP100"),
    ],
)
def test_a_name_that_kaggle_does_not_have_is_refused_with_the_one_that_is_meant(
    tmp_path: Path, given: str, meant: str
) -> None:
    said = refusal(tmp_path, given)
    assert f"kernel.accelerator: given {given!r}; accepted: NvidiaTeslaT4, " in said
    assert f"Did you mean {meant}?" in said


def test_a_name_like_none_of_them_is_refused_with_the_list_alone(tmp_path: Path) -> None:
    said = refusal(tmp_path, "gpu")
    assert "NvidiaRtxPro6000; left out for the CPU" in said
    assert "Did you mean" not in said


@pytest.mark.parametrize("name", [each.name for each in accelerators.ACCELERATORS if each.kind == "TPU"])
def test_a_tpu_is_refused_in_words_before_anything_moves(tmp_path: Path, name: str) -> None:
    assert "Stable-Baselines3 cannot train on a TPU" in refusal(tmp_path, name)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("NvidiaTeslaT4", "Tesla T4"),
        ("NvidiaTeslaT4Highmem", "Tesla T4"),
        ("NvidiaTeslaP100", "Tesla T4"),
        ("NvidiaTeslaP100", "Tesla P100-PCIE-16GB"),
        ("NvidiaL4", "NVIDIA L4"),
        ("NvidiaL4X1", "NVIDIA L4"),
        ("NvidiaTeslaA100", "NVIDIA A100-SXM4-40GB"),
        ("NvidiaH100", "NVIDIA H100 80GB HBM3"),
        ("NvidiaRtxPro6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition"),
    ],
)
def test_what_kaggle_gives_for_a_name_is_what_was_asked_for(asked: str, found: str) -> None:
    assert accelerators.is_what_was_asked(asked, found)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("NvidiaTeslaT4", ""),
        ("NvidiaTeslaT4", "Tesla P100-PCIE-16GB"),
        ("NvidiaL4", "NVIDIA L40S"),
        ("NvidiaTeslaT4", "NVIDIA T400"),
        ("T4", "Tesla T4"),
    ],
)
def test_another_gpu_is_not_what_was_asked_for(asked: str, found: str) -> None:
    assert not accelerators.is_what_was_asked(asked, found)


@pytest.mark.parametrize(
    ("name", "state", "says"),
    [
        (None, "ok", "costs no weekly quota"),
        ("NvidiaTeslaT4", "ok", "everybody"),
        ("NvidiaTeslaP100", "caution", "gets two T4s"),
        ("NvidiaTeslaA100", "caution", "some competitions"),
    ],
)
def test_the_doctor_says_what_kaggle_gives(tmp_path: Path, name: str | None, state: str, says: str) -> None:
    path = tmp_path / "section_x" / "section.toml"
    path.parent.mkdir()
    path.write_text(SECTION.format(name) if name else SECTION.replace('accelerator = "{}"\n', ""), encoding="utf-8")
    check = machine.accelerator(load_section(path))
    assert check.state == state
    assert says in check.says
