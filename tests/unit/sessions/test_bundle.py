"""The bundle: same code, same hash; the script runs what was built and nothing else."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from kaggle_manager.errors import BundleTooLarge, ConfigError
from kaggle_manager.protocol.events import BundleEvent, ContainerEvent, parse_event, session_tag
from kaggle_manager.sections.model import load_section
from kaggle_manager.sections.scaffold import new_section
from kaggle_manager.sessions import bundle
from kaggle_manager.sessions.bundle import Bundle, build_bundle, order_of, render_script
from kaggle_manager.trainer.entry import ARITHMETIC

ROOT = Path(__file__).resolve().parents[3]

ORDER = {"run_id": "r1", "generation": 1, "bundle_sha256": "x", "packages": [], "deadline_s": 60.0}


MAIN = "kaggle_manager/trainer/main.py"
TRAINER = """
import time
def run(order):
    print('trained', order['run_id'], 0 < time.monotonic() - order['trainer_started'] < 60)
    return 0
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one section, and an installed program whose trainer only says that it ran."""
    root = tmp_path / "project"
    new_section("mine", root)
    (root / "sections/mine/data").mkdir()
    (root / "sections/mine/data/model.py").write_text("never = 'packed'\n")
    (root / "sections/mine/kaggle.json").write_text('{"key": "secret"}')
    installed = tmp_path / "installed"
    for name in ("trainer", "system"):
        (installed / "kaggle_manager" / name).mkdir(parents=True)
        (installed / "kaggle_manager" / name / "__init__.py").touch()
    (installed / "kaggle_manager/__init__.py").touch()
    for name in (bundle.ENTRY, "kaggle_manager/trainer/packages.py", ARITHMETIC):
        (installed / name).write_bytes((ROOT / name).read_bytes())
    (installed / MAIN).write_text(TRAINER)
    monkeypatch.setattr(bundle, "INSTALLED", installed)
    monkeypatch.setattr(bundle, "RUNTIME", ("kaggle_manager/trainer", "kaggle_manager/system"))
    return root


def built(project: Path, *include: str) -> Bundle:
    section = load_section(project / "sections/mine/section.toml")
    kernel = section.kernel.model_copy(update={"include": list(include)})
    return build_bundle(project, section.model_copy(update={"kernel": kernel}))


def test_same_code_same_hash_whatever_the_times_and_line_ends(project: Path) -> None:
    first = built(project)
    environment = project / "sections/mine/environment.py"
    environment.write_bytes(environment.read_bytes().replace(b"\n", b"\r\n"))
    assert built(project, "sections/mine", "sections").sha256 == first.sha256
    environment.write_bytes(environment.read_bytes() + b"# changed\n")
    assert built(project).sha256 != first.sha256


def test_the_sections_folder_travels_with_the_runtime_and_never_a_credential_or_a_result(project: Path) -> None:
    assert [name for name, _ in built(project).files] == [
        "kaggle_manager/__init__.py",
        "kaggle_manager/system/__init__.py",
        "kaggle_manager/system/arithmetic.py",
        "kaggle_manager/trainer/__init__.py",
        "kaggle_manager/trainer/entry.py",
        "kaggle_manager/trainer/main.py",
        "kaggle_manager/trainer/packages.py",
        "sections/__init__.py",
        "sections/mine/__init__.py",
        "sections/mine/environment.py",
        "sections/mine/section.toml",
    ]


def unpacked(bundle: Bundle, folder: Path) -> Path:
    """As `trainer/entry.py` does it."""
    with tarfile.open(fileobj=io.BytesIO(bundle.archive)) as archive:
        archive.extractall(folder, filter="data")
    return folder


BYTES = bytes(range(256)) + b"\r\n\r\n"


def test_a_folder_that_is_included_travels_byte_for_byte_and_can_be_executed(project: Path, tmp_path: Path) -> None:
    files = {
        "model/weights.bin": BYTES,
        "model/deep/table.csv": b"\xef\xbb\xbfa;b\r\n",
        "model/net.xml": "<net/>\r\n".encode("utf-16"),
        "model/run.sh": b"#!/bin/sh\r\n",
        "table.bin": BYTES,
    }
    for name, content in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(content)
    (project / "model/run.sh").chmod(0o755)
    for name in ("model/__pycache__/a.pyc", "model/.git/config", "model/.env", "model/kaggle.json"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).touch()
    there = unpacked(built(project, "model", "table.bin"), tmp_path / "there")
    assert {name: (there / name).read_bytes() for name in files} == files
    assert os.access(there / "model/run.sh", os.X_OK)
    assert not os.access(there / "model/weights.bin", os.X_OK) or sys.platform == "win32"
    assert {each.name for each in (there / "model").rglob("*")} == {
        "weights.bin",
        "deep",
        "table.csv",
        "net.xml",
        "run.sh",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege there")
def test_a_link_travels_as_what_it_leads_to_inside_the_project_and_is_refused_outside(
    project: Path, tmp_path: Path
) -> None:
    (project / "store").mkdir()
    (project / "store/a.bin").write_bytes(BYTES)
    (project / "model").mkdir()
    (project / "model/a.bin").symlink_to("../store/a.bin")
    (project / "model/all").symlink_to("../store")
    (project / "store/round").symlink_to("../model")
    there = unpacked(built(project, "model"), tmp_path / "there")
    assert (there / "model/a.bin").read_bytes() == (there / "model/all/a.bin").read_bytes() == BYTES
    assert not any(path.is_symlink() for path in there.rglob("*"))
    for target, why in ((tmp_path, "outside the project"), (project / "nothing", "a link to nothing")):
        (project / "model/other").symlink_to(target)
        with pytest.raises(ConfigError, match=f"'model/other', which belongs to the code .* {why}"):
            built(project, "model")
        (project / "model/other").unlink()
    (project / "sections/mine/notes").symlink_to(tmp_path)
    assert built(project), "of the section's own folder only sources travel"


def test_what_the_experiment_is_fingerprinted_by_travels(project: Path) -> None:
    for name in ("sections/mine/demand.json", "shared.csv"):
        (project / name).touch()
    section = load_section(project / "sections/mine/section.toml")
    scenario = next(iter(section.scenarios.values()))
    files = [*scenario.environment_files, "demand.json", "shared.csv"]
    changed = scenario.model_copy(update={"environment_files": files})
    section = section.model_copy(update={"scenarios": {"mine": changed}})
    assert {"sections/mine/demand.json", "shared.csv"} <= {name for name, _ in build_bundle(project, section).files}


def test_a_folder_named_data_travels_unless_it_holds_what_runs_produce(project: Path) -> None:
    for name in ("helpers/data/loader.py", "sections/mine/lib/data/__init__.py"):
        (project / name).parent.mkdir(parents=True)
        (project / name).touch()
    names = [name for name, _ in built(project, "helpers", "sections/mine/data/model.py").files]
    assert {"helpers/data/loader.py", "sections/mine/lib/data/__init__.py"} <= set(names)
    assert "sections/mine/data/model.py" in names, "named by itself it is wanted"
    assert "sections/mine/data/model.py" not in [name for name, _ in built(project, "sections").files]


def test_a_long_name_travels(project: Path) -> None:
    name = "/".join(["sections/mine", *["a" * 90] * 4, "b.py"])
    (project / name).parent.mkdir(parents=True)
    (project / name).touch()
    with tarfile.open(fileobj=io.BytesIO(built(project).archive)) as archive:
        assert name in archive.getnames()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_text_is_refused_by_name(project: Path) -> None:
    (project / "sections/mine" / os.fsdecode(b"\xff.py")).touch()
    with pytest.raises(ConfigError, match="a name that is no text"):
        built(project)


def test_an_included_module_brings_its_packages_markers(project: Path) -> None:
    (project / "library/deep").mkdir(parents=True)
    for name in ("__init__.py", "deep/__init__.py", "deep/used.py", "deep/unused.py"):
        (project / "library" / name).touch()
    names = [name for name, _ in built(project, "library/deep/used.py").files if name.startswith("library")]
    assert names == ["library/__init__.py", "library/deep/__init__.py", "library/deep/used.py"]


@pytest.mark.parametrize("entry", ["nowhere", "../outside", "/etc"])
def test_what_is_not_inside_the_project_is_refused(project: Path, entry: str) -> None:
    with pytest.raises(ConfigError, match="not a file or folder inside"):
        built(project, entry)


def test_this_programs_own_code_is_not_the_users_to_include(project: Path) -> None:
    with pytest.raises(ConfigError, match="brings its own code itself"):
        built(project, "kaggle_manager/checkpoints")


def test_over_the_limit_is_refused_naming_the_largest_file(project: Path) -> None:
    import random

    noise = random.Random(1).randbytes(900_000).hex()
    (project / "sections/mine/huge.py").write_text(f"DATA = '{noise}'\n")
    with pytest.raises(BundleTooLarge, match=r"sections/mine/huge\.py \(1,800,\d+ bytes\)"):
        render_script(built(project), ORDER)


def test_more_than_could_ever_be_sent_is_refused_unread(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_content", lambda *where: pytest.fail("it is read"))
    with (project / "big.bin").open("wb") as file:
        file.truncate(10 * bundle.CODE_LIMIT_BYTES)
    with pytest.raises(BundleTooLarge, match=r"640,\d+,\d+ bytes.*big\.bin \(640,000,000 bytes\)") as refused:
        built(project, "big.bin")
    assert "`inputs`" in refused.value.next_step


def run_script(
    script: str, tmp_path: Path, environ: Mapping[str, str] = MappingProxyType({})
) -> tuple[subprocess.CompletedProcess[str], dict[str, object]]:
    working = tmp_path / "working"
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        env={
            "KM_WORKING_DIR": str(working),
            "KM_INPUT_DIR": str(tmp_path / "input"),
            "KM_MACHINE_NAME": "c-123456",
            "PATH": "/usr/bin:/bin",
            **environ,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    result = working / "session_result.json"
    return done, json.loads(result.read_text()) if result.exists() else {}


def test_the_hash_is_the_first_thing_said_and_the_packed_code_runs(project: Path, tmp_path: Path) -> None:
    code = built(project)
    done, _ = run_script(render_script(code, ORDER), tmp_path)
    lines = [line for line in done.stdout.splitlines() if line]
    told = [parse_event(line, session_tag("r1", 1)) for line in lines[:2]]
    assert told == [BundleEvent(sha256=code.sha256), ContainerEvent(container="c-123456")]
    assert "trained r1 True" in lines, "and knows since when: the imports of the trainer are the session's time"


LANES = """
import json, os, pathlib, sys, time
def run(order):
    where = pathlib.Path(os.environ["KM_WORKING_DIR"])
    where.mkdir(parents=True)
    pathlib.Path("here.txt").write_text(order["run_id"])  # beside its code, as the user's code may
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    said = {"cores": cores, "gpu": os.environ["CUDA_VISIBLE_DEVICES"], "mine": pathlib.Path("here.txt").read_text()}
    for number in range(300):
        os.write(1, b"a line of %s\\n" % order["run_id"].encode())
    if order["run_id"] == "r2":
        sys.exit("it fails")
    (where / "session_result.json").write_text(json.dumps({**said, **order, "exit_code": 0}))
    return 0
"""


def test_several_orders_run_side_by_side_each_with_its_folder_its_lines_and_its_share_of_the_machine(
    project: Path, tmp_path: Path
) -> None:
    (bundle.INSTALLED / MAIN).write_text(LANES)
    orders = [{**ORDER, "run_id": f"r{number}", "lane": f"lane_{number}"} for number in (1, 2, 3)]
    code = built(project)
    script = render_script(code, orders[0], beside=orders[1:])
    assert [order_of(script, f"r{number}") for number in (1, 2, 3, 4)] == [*orders, None]
    done, at_the_root = run_script(script, tmp_path, {"CUDA_VISIBLE_DEVICES": "0,1"})
    assert (done.returncode, at_the_root) == (1, {}), "one of them has failed"
    found = [json.loads((tmp_path / f"working/lane_{number}/session_result.json").read_text()) for number in (1, 2, 3)]
    assert [each["run_id"] for each in found] == ["r1", "r2", "r3"]
    assert (found[1]["outcome"], "code 1" in found[1]["reason"]) == ("crashed", True)
    assert [found[0]["mine"], found[2]["mine"]] == ["r1", "r3"], "each has a copy of the code"
    assert [found[0]["gpu"], found[2]["gpu"]] == ["0", "0"], "two GPUs for three lanes"
    if len(found[0]["cores"]) < os.cpu_count():  # type: ignore[operator]
        assert not set(found[0]["cores"]) & set(found[2]["cores"])
    lines = done.stdout.splitlines()
    for number in (1, 2, 3):
        own = [line for line in lines if line.startswith(f"lane_{number}| ")]
        assert own.count(f"lane_{number}| a line of r{number}") == 300, "whole lines, none lost"
        told = [event for line in own if (event := parse_event(line.partition("| ")[2], session_tag(f"r{number}", 1)))]
        assert told[:2] == [BundleEvent(sha256=code.sha256), ContainerEvent(container="c-123456")]


def test_a_trainer_without_a_last_word_is_reported_as_crashed(project: Path, tmp_path: Path) -> None:
    (bundle.INSTALLED / MAIN).write_text("import nothing_of_that_name\n")
    done, result = run_script(render_script(built(project), ORDER), tmp_path)
    assert done.returncode == 1
    assert result["outcome"] == "crashed"
    assert "ModuleNotFoundError" in done.stderr


def test_code_that_is_not_what_was_built_never_runs(project: Path, tmp_path: Path) -> None:
    genuine = built(project).sha256
    (bundle.INSTALLED / MAIN).write_text("def run(order):\n    print('other')\n    return 0\n")
    other = built(project)
    script = render_script(other, ORDER).replace(f"bundle_sha256='{other.sha256}'", f"bundle_sha256='{genuine}'")
    done, result = run_script(script, tmp_path)
    assert done.returncode == 3
    assert result["outcome"] == "refused"
    assert "other" not in done.stdout


def test_missing_packages_are_named_before_anything_is_installed(project: Path, tmp_path: Path) -> None:
    order = {**ORDER, "packages": ["km-package-that-does-not-exist==1.0"]}
    done, result = run_script(render_script(built(project), order), tmp_path)
    assert done.returncode == 3
    assert "installing km-package-that-does-not-exist==1.0" in done.stdout
    assert "pip could not install km-package-that-does-not-exist==1.0" in str(result["reason"])
