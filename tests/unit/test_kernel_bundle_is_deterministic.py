"""The bundle: same code, same hash; the script runs what was built and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_manager.config import PROJECT_ROOT
from kaggle_manager.errors import BundleTooLarge, ConfigError
from kaggle_manager.kernel_bundle import build_bundle, render_script

ORDER = {"run_id": "r1", "generation": 1, "bundle_sha256": "x", "packages": [], "deadline_s": 60.0}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "kernels/rl_training").mkdir(parents=True)
    (root / "kernels/__init__.py").write_text("")
    (root / "kernels/rl_training/__init__.py").write_text("")
    (root / "kernels/entry.py").write_bytes((PROJECT_ROOT / "kernels/entry.py").read_bytes())
    (root / "kernels/rl_training/main.py").write_text(
        "import time\n"
        "def run(order):\n"
        "    print('trained', order['run_id'], 0 < time.monotonic() - order['trainer_started'] < 60)\n"
        "    return 0\n"
    )
    (root / "kernels/data").mkdir()
    (root / "kernels/data/model.py").write_text("never = 'packed'\n")
    (root / "kernels/kaggle.json").write_text('{"key": "secret"}')
    return root


def test_same_code_same_hash_whatever_the_times_and_line_ends(project: Path, tmp_path: Path) -> None:
    first = build_bundle(project, ["kernels"])
    main = project / "kernels/rl_training/main.py"
    main.write_bytes(main.read_bytes().replace(b"\n", b"\r\n"))
    assert build_bundle(project, ["kernels/rl_training", "kernels"]).sha256 == first.sha256
    main.write_bytes(main.read_bytes() + b"# changed\n")
    assert build_bundle(project, ["kernels"]).sha256 != first.sha256


def test_only_sources_go_in_and_never_a_credential(project: Path) -> None:
    names = [name for name, _ in build_bundle(project, ["kernels"]).files]
    assert names == [
        "kernels/__init__.py",
        "kernels/entry.py",
        "kernels/rl_training/__init__.py",
        "kernels/rl_training/main.py",
    ]


def test_an_included_module_brings_its_packages_markers(project: Path) -> None:
    names = [name for name, _ in build_bundle(project, ["kernels/rl_training/main.py"]).files]
    assert names == ["kernels/__init__.py", "kernels/rl_training/__init__.py", "kernels/rl_training/main.py"]


@pytest.mark.parametrize("entry", ["nowhere", "../outside", "/etc"])
def test_what_is_not_inside_the_project_is_refused(project: Path, entry: str) -> None:
    with pytest.raises(ConfigError, match="not a file or folder inside"):
        build_bundle(project, [entry])


def test_over_the_limit_is_refused_naming_the_largest_file(project: Path) -> None:
    import random

    noise = random.Random(1).randbytes(900_000).hex()
    (project / "kernels/huge.py").write_text(f"DATA = '{noise}'\n")
    bundle = build_bundle(project, ["kernels"])
    with pytest.raises(BundleTooLarge, match=r"kernels/huge\.py \(1,800,\d+ bytes\)"):
        render_script(project, bundle, ORDER)


def run_script(script: str, tmp_path: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, object]]:
    working = tmp_path / "working"
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        env={"KAGGLE_WORKING_DIR": str(working), "PATH": "/usr/bin:/bin", "KAGGLE_CONTAINER_NAME": "c-123456"},
        capture_output=True,
        text=True,
        check=False,
    )
    result = working / "session_result.json"
    return done, json.loads(result.read_text()) if result.exists() else {}


def test_the_hash_is_the_first_line_and_the_packed_code_runs(project: Path, tmp_path: Path) -> None:
    bundle = build_bundle(project, ["kernels"])
    done, _ = run_script(render_script(project, bundle, ORDER), tmp_path)
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"KM_BUNDLE sha256={bundle.sha256}", "KM_SESSION container=c-123456"]
    assert "trained r1 True" in lines, "and knows since when: the imports of the trainer are the session's time"


def test_a_trainer_without_a_last_word_is_reported_as_crashed(project: Path, tmp_path: Path) -> None:
    (project / "kernels/rl_training/main.py").write_text("import nothing_of_that_name\n")
    done, result = run_script(render_script(project, build_bundle(project, ["kernels"]), ORDER), tmp_path)
    assert done.returncode == 1
    assert result["outcome"] == "crashed"
    assert "ModuleNotFoundError" in done.stderr


def test_code_that_is_not_what_was_built_never_runs(project: Path, tmp_path: Path) -> None:
    script = render_script(project, build_bundle(project, ["kernels"]), ORDER)
    (project / "kernels/rl_training/main.py").write_text("def run(order):\n    print('other')\n    return 0\n")
    other = build_bundle(project, ["kernels"])
    genuine = build_bundle(project, ["kernels/__init__.py"]).sha256
    script = render_script(project, other, ORDER).replace(
        f"bundle_sha256='{other.sha256}'", f"bundle_sha256='{genuine}'"
    )
    done, result = run_script(script, tmp_path)
    assert done.returncode == 3
    assert result["outcome"] == "refused"
    assert "other" not in done.stdout


def test_missing_packages_are_named_before_anything_is_installed(project: Path, tmp_path: Path) -> None:
    order = {**ORDER, "packages": ["km-package-that-does-not-exist==1.0"]}
    done, result = run_script(render_script(project, build_bundle(project, ["kernels"]), order), tmp_path)
    assert done.returncode == 1
    assert "installing km-package-that-does-not-exist==1.0" in done.stdout
    assert "phone number" in str(result["reason"])
