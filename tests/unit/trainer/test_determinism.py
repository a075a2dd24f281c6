"""The arithmetic is pinned before NumPy and torch are loaded, and told apart by what it computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.sections.project import get_section
from kaggle_manager.sessions.try_out import unpacked
from kaggle_manager.system import arithmetic
from kaggle_manager.trainer import entry
from kaggle_manager.trainer.sb3 import determinism

ROOT = Path(__file__).resolve().parents[3]
SUPPORT = ROOT / "tests/support"
FINGERPRINT = """
import json
from kaggle_manager.trainer.sb3 import determinism
determinism.make_deterministic("cpu")
print(json.dumps(determinism.fingerprint()))
"""
MACHINE_WITHOUT_AVX512 = {arithmetic.LEFT_OUT: ",".join(arithmetic.ABOVE_AVX2), "OPENBLAS_CORETYPE": "Haswell"}


def unpinned(**variables: str) -> dict[str, str]:
    """The environment of a user who has set these variables and no other; this process's own is pinned."""
    ours = arithmetic.pinned({})
    return {name: value for name, value in os.environ.items() if name not in ours} | variables


def start(*command: str, **variables: str) -> subprocess.Popen[str]:
    search = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, *command],
        env=unpinned(PYTHONPATH=search, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said_by(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """The JSON of its last line, and all it printed."""
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return json.loads(printed.splitlines()[-1]), printed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], str]]:
    """One training: on this machine, on one without AVX-512, and where NumPy is loaded before this program."""
    program, folder = str(SUPPORT / "rounding.py"), tmp_path_factory.mktemp("trainings")
    processes = {
        "here": start(program, str(folder / "here")),
        "without": start(program, str(folder / "without"), **MACHINE_WITHOUT_AVX512),
        "late": start(program, str(folder / "late"), "numpy-first"),
    }
    return {name: said_by(process) for name, process in processes.items()}


@pytest.mark.slow
def test_one_training_has_the_same_bits_with_avx_512_and_without(trained: dict[str, Any]) -> None:
    """Its environment is made of `exp`, `log1p` and `power`, which NumPy computes otherwise with AVX-512."""
    (here, log), (without, _) = trained["here"], trained["without"]
    assert here == without
    assert "which not every machine has" not in log


@pytest.mark.slow
def test_numpy_that_was_loaded_before_it_was_pinned_is_said_and_told_by_its_bits(trained: dict[str, Any]) -> None:
    (late, log), (without, _) = trained["late"], trained["without"]
    if late["fingerprint"]["numpy_features"] == without["fingerprint"]["numpy_features"]:
        pytest.skip("this machine has no AVX-512: nothing shows that the bits would differ without the pin")
    assert late["digests"]["all"] != without["digests"]["all"]
    changed = determinism.differences(late["fingerprint"], without["fingerprint"])
    assert [line.partition(":")[0] for line in changed] == ["numpy_features", "probe"]
    assert "WARNING: NumPy uses " in log
    assert "import it later" in log


@pytest.mark.slow
def test_it_is_pinned_before_torch_is_loaded_and_two_processes_compute_the_same(trained: dict[str, Any]) -> None:
    theirs = trained["here"][0]["fingerprint"]
    assert theirs["threads"] == 1
    assert theirs["instruction_set"] in ("AVX2", "DEFAULT", "NO AVX")
    determinism.make_deterministic("cpu")  # as every training does first, whichever tests ran before this one
    assert determinism.differences(determinism.fingerprint(), theirs) == []


@pytest.mark.skipif(not arithmetic._has_avx2(), reason="no AVX2: nothing is pinned")
@pytest.mark.slow
def test_another_core_of_openblas_is_told_by_name_and_by_what_it_computes() -> None:
    older, _ = said_by(start("-c", FINGERPRINT, OPENBLAS_CORETYPE="Prescott"))
    changed = determinism.differences(determinism.fingerprint(), older)
    assert [line.partition(":")[0] for line in changed] == ["openblas", "probe"]


def test_a_user_who_chose_otherwise_is_not_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    determinism.pin()
    assert os.environ["OMP_NUM_THREADS"] == "3"


ALL = ",".join(arithmetic.ABOVE_AVX2)


@pytest.mark.parametrize(
    ("chosen", "pinned"),
    [
        ({}, {arithmetic.LEFT_OUT: ALL}),
        ({arithmetic.LEFT_OUT: ""}, {arithmetic.LEFT_OUT: ALL}),
        ({arithmetic.LEFT_OUT: "AVX2 X86_V4"}, {arithmetic.LEFT_OUT: f"AVX2,X86_V4,{ALL.removesuffix(',X86_V4')}"}),
        ({arithmetic.LEFT_OUT: ALL}, {arithmetic.LEFT_OUT: ALL}),
        ({arithmetic.ALONE: "X86_V3, X86_V4"}, {arithmetic.ALONE: "X86_V3"}),
        ({arithmetic.ALONE: "AVX512F"}, {arithmetic.ALONE: " "}),
    ],
)
def test_what_the_user_tells_numpy_is_merged(
    chosen: dict[str, str], pinned: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    found = {name: value for name, value in arithmetic.pinned(chosen).items() if name.startswith("NPY_")}
    assert found == pinned, "never both: NumPy cannot be imported then"


def test_a_processor_of_another_kind_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert not [name for name in arithmetic.pinned({}) if name.startswith("NPY_")]


@pytest.mark.parametrize("chosen", [{}, {arithmetic.LEFT_OUT: "NOT_A_FEATURE"}, {arithmetic.ALONE: "X86_V3 AVX512F"}])
def test_numpy_loads_under_the_pins_without_a_word_also_where_warnings_are_errors(chosen: dict[str, str]) -> None:
    program = (
        "import json, kaggle_manager.trainer; from kaggle_manager.trainer.sb3 import determinism as d; "
        "from kaggle_manager.system.arithmetic import ABOVE_AVX2; "
        "print(json.dumps([name for name in d.numpy_features() if name in ABOVE_AVX2]))"
    )
    above, printed = said_by(start("-W", "error", "-c", program, **chosen))
    assert above == []
    assert printed == "[]\n"


def test_a_session_is_pinned_from_the_start_of_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python itself may load NumPy before the trainer's first line, for a `sitecustomize` of the image."""
    for name in arithmetic.pinned({}):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    program = "import json, os, sys; json.dump(dict(os.environ), sys.stdout)"
    with entry.run_of_bundle(ROOT, program, tmp_path / "order.json", stdout=subprocess.PIPE) as process:
        given = json.loads(process.communicate(timeout=60)[0])
    assert arithmetic.pinned({"OMP_NUM_THREADS": "2"}).items() <= given.items()


def test_a_preflight_of_the_section_is_started_under_the_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may load NumPy before the trainer, as the one of section 7.6 does."""
    for name in arithmetic.pinned({}):
        monkeypatch.delenv(name, raising=False)
    with unpacked(ROOT, get_section(ROOT, "section_7_6_rl_performance")) as place:
        assert arithmetic.pinned({}).items() <= place.environ.items()
