"""The wheels of what a section pins: what the image lacks, for each Python, by their content, and made once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_wheels import Image, index_of, tiny_wheel

from kaggle_manager.errors import ConfigError, NoSuchPackage, Unavailable
from kaggle_manager.sessions import wheels
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.sessions.repack import repack
from kaggle_manager.sessions.wheels import Machine, wheels_of
from kaggle_manager.system import file_lock
from kaggle_manager.trainer import packages

KAGGLE = Machine(("3.12", "3.13"), frozenset({"torch", "gymnasium", "numpy"}))
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip finds after `offer`, and nothing else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)  # what pip warns of is pip's
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    return tmp_path / "index"


def offer(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index_of(index))


@pytest.mark.slow
def test_what_is_pinned_and_what_the_image_lacks_of_what_it_requires(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requires = [
        *("torch>=2.8", "Simulator.Core>=1,<3", "only-windows; sys_platform == 'win32'", "helper; extra == 'all'"),
        *("old; python_version < '3.13'", "never; extra == 'more'"),
    ]
    tiny_wheel(index, "agent", "2.9", requires=requires)
    for cp in ("cp312", "cp313"):
        for version in ("2.0", "2.5", "3.0"):
            tiny_wheel(index, "simulator-core", version, tag=f"{cp}-{cp}-manylinux_2_28_x86_64", requires=["old<9"])
    for name in ("helper", "old", "gymnasium"):
        tiny_wheel(index, name, "1.0")
    offer(index, monkeypatch)
    pins = ["agent[all]==2.9", "gymnasium==1.0"]
    made = wheels_of(pins, KAGGLE, tmp_path / "cache")
    assert sorted(made.files) == [
        "agent-2.9-py3-none-any.whl",
        "gymnasium-1.0-py3-none-any.whl",
        "helper-1.0-py3-none-any.whl",
        "old-1.0-py3-none-any.whl",
        "simulator_core-2.5-cp312-cp312-manylinux_2_28_x86_64.whl",
        "simulator_core-2.5-cp313-cp313-manylinux_2_28_x86_64.whl",
    ]
    assert all(made.files[path.name] == hashlib.sha256(path.read_bytes()).hexdigest() for path in made.paths)
    only = wheels_of(pins, Machine(("3.13",), KAGGLE.has), tmp_path / "cache")
    assert "cp312" not in " ".join(only.files)
    assert only.slug != made.slug

    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert wheels_of(pins[::-1], KAGGLE, tmp_path / "cache") == made, "made once, and found without an index"
    made.paths[0].write_bytes(b"half")
    with pytest.raises(Unavailable):
        wheels_of(pins, KAGGLE, tmp_path / "cache")


def test_a_wheel_that_was_damaged_here_is_made_again_also_where_its_size_is_right(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_wheel(index, "agent", "2.9")
    offer(index, monkeypatch)
    machine = Machine(("3.13",), KAGGLE.has)
    made = wheels_of(["agent==2.9"], machine, tmp_path / "cache")
    [wheel] = made.paths
    whole = wheel.read_bytes()
    wheel.write_bytes(bytes(len(whole)))  # as a power cut may leave it
    assert wheels_of(["agent==2.9"], machine, tmp_path / "cache") == made
    assert wheel.read_bytes() == whole


def test_what_a_command_left_that_was_killed_is_removed_and_what_one_is_at_work_on_is_not(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_wheel(index, "agent", "2.9")
    offer(index, monkeypatch)
    cache = tmp_path / "cache"
    program = (
        "import os, sys, pathlib\n"
        "from kaggle_manager.sessions import wheels\n"
        "wheels._pip = lambda *_: os._exit(9)\n"
        f"wheels.wheels_of(sys.argv[1:], wheels.Machine(('3.13',), frozenset()), pathlib.Path({str(cache)!r}))\n"
    )

    def killed(pin: str) -> Path:
        assert subprocess.run([sys.executable, "-c", program, pin], check=False).returncode == 9
        [left] = cache.glob(".making-*")
        return left

    machine = Machine(("3.13",), frozenset())
    left = killed("agent==2.9")
    monkeypatch.setattr(wheels, "_LONGEST_S", 0.05)
    with (
        file_lock.hold(cache / f"{left.name.removeprefix('.making-')}.lock"),
        pytest.raises(Unavailable, match="Another command is collecting the same wheels"),
    ):
        wheels_of(["agent==2.9"], machine, cache)
    assert left.is_dir()
    monkeypatch.setattr(wheels, "_LONGEST_S", 60.0)
    assert wheels_of(["agent==2.9"], machine, cache).files
    killed("another==1.0")
    assert wheels_of(["agent==2.9"], machine, cache).files
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []


def test_the_name_of_a_dataset_is_its_content(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_wheel(index, "agent", "2.9")
    offer(index, monkeypatch)
    machine = Machine(("3.12",), KAGGLE.has)
    slugs = [wheels_of(["agent==2.9"], machine, tmp_path / cache).slug for cache in ("one", "two")]
    assert slugs[0] == slugs[1]
    assert slugs[0].startswith("km-wheels-")
    assert len(slugs[0]) <= 50
    tiny_wheel(index, "agent", "2.9", requires=["numpy"])
    assert wheels_of(["agent==2.9"], machine, tmp_path / "three").slug != slugs[0]


def test_what_no_wheel_is_for_is_said_before_anything_is_pushed(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_wheel(index, "agent", "2.9", tag="cp312-cp312-manylinux_2_28_x86_64")
    tiny_wheel(index, "old", "2.9", tag="cp311-cp311-manylinux_2_28_x86_64")
    tiny_wheel(index, "pinned", "1.0", requires=["agent>=3"])
    offer(index, monkeypatch)
    made = wheels_of(["agent==2.9"], KAGGLE, tmp_path / "cache")
    assert [*made.files] == ["agent-2.9-cp312-cp312-manylinux_2_28_x86_64.whl"], "which Python it has, the session says"
    made.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"no wheels of old==2\.9 for Kaggle's image with Python 3\.13") as refused:
        wheels_of(["old==2.9"], KAGGLE, tmp_path / "cache")
    assert "nothing was pushed" in refused.value.safe
    with pytest.raises(ConfigError, match=r"pinned==1\.0 requires agent>=3, and 2\.9 is pinned"):
        wheels_of(["agent==2.9", "pinned==1.0"], Machine(("3.12",), KAGGLE.has), tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()], "nothing half made is left"


@pytest.mark.slow
def test_a_version_that_no_index_has_is_refused_with_those_there_are_and_one_in_sources_alone_is_not(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(("3.13",), KAGGLE.has)
    tiny_wheel(index, "agent", "2.8")
    tiny_wheel(index, "agent", "2.9", tag="cp313-cp313-manylinux_2_28_x86_64")
    (index / "agent-3.0.tar.gz").write_bytes(b"")
    offer(index, monkeypatch)
    page = index / "simple/agent/index.html"
    page.write_text(f'{page.read_text()}<a href="{(index / "agent-3.0.tar.gz").as_uri()}">agent-3.0.tar.gz</a>')
    with pytest.raises(NoSuchPackage) as refused:
        wheels_of(["Agent==9.1"], machine, tmp_path / "cache")
    assert refused.value.message == "No package index has Agent==9.1: the versions of Agent are 3.0, 2.9, 2.8."
    with pytest.raises(NoSuchPackage, match=r"No package index has agnet==2\.8, or another version of agnet"):
        wheels_of(["agnet==2.8"], machine, tmp_path / "cache")
    with pytest.raises(ConfigError, match=r"no wheels of agent==3\.0") as in_sources:
        wheels_of(["agent==3.0"], machine, tmp_path / "cache")
    assert not isinstance(in_sources.value, NoSuchPackage), "pip can build it in the session"
    assert in_sources.value.message.count("agent==3.0") == 2, "pip's reason, once"


@pytest.mark.slow
def test_what_fits_together_is_found_where_the_newest_of_each_does_not(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_wheel(index, "one", "1.0", requires=["common", "two"])
    tiny_wheel(index, "two", "1.0", requires=["three"])
    tiny_wheel(index, "three", "1.0", requires=["common<3"])  # known once the newest was taken
    tiny_wheel(index, "four", "1.0", requires=["common"])
    tiny_wheel(index, "common", "3.0")
    tiny_wheel(index, "common", "2.0", requires=["helper"])
    tiny_wheel(index, "helper", "2.0", requires=["four>=2"])
    tiny_wheel(index, "helper", "1.0")
    offer(index, monkeypatch)
    machine = Machine(("3.13",), KAGGLE.has)
    made = wheels_of(["one==1.0", "four==1.0"], machine, tmp_path / "cache")
    assert {name.partition("-py3")[0] for name in made.files} == {
        *("one-1.0", "two-1.0", "three-1.0", "four-1.0", "common-2.0", "helper-1.0"),
    }
    tiny_wheel(index, "never", "1.0", requires=["common>=3", "two"])
    offer(index, monkeypatch)
    with pytest.raises(ConfigError, match=r"three requires common<3, and 3\.0 was taken"):
        wheels_of(["never==1.0"], machine, tmp_path / "cache")


@pytest.mark.slow
def test_a_wheel_that_requires_more_than_the_image_has_gives_way_to_an_older_one(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_wheel(index, "agent", "1.0", requires=["helper", "numpy>=1"])
    for version in ("1", "2", "3"):
        tiny_wheel(index, "helper", f"{version}.0", requires=[f"numpy>={version}.5"])
    tiny_wheel(index, "new", "1.0", requires=["helper>=2"])
    offer(index, monkeypatch)
    machine = Machine(("3.13",), KAGGLE.has, versions={"numpy": "2.1.3"})
    found = wheels_of(["agent==1.0"], machine, tmp_path / "cache").files
    assert [*found] == ["agent-1.0-py3-none-any.whl", "helper-1.0-py3-none-any.whl"]
    found = wheels_of(["agent==1.0", "new==1.0"], machine, tmp_path / "cache").files
    assert "helper-3.0-py3-none-any.whl" in found, "where none fits, the session says: the list is a snapshot"


@pytest.mark.slow
def test_the_extras_of_what_is_pinned_or_there_already_are_collected(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extras = ["of-a; extra == 'a'", "agent[a,b]; extra == 'all'", "of-b; extra == 'b'"]
    tiny_wheel(index, "agent", "1.0", requires=[*extras, "never; extra == 'c'"])
    tiny_wheel(index, "user", "1.0", requires=["agent[b]"])
    tiny_wheel(index, "of-a", "1.0")
    tiny_wheel(index, "of-b", "1.0")
    offer(index, monkeypatch)
    machine = Machine(("3.13",), KAGGLE.has)

    def names(*pins: str) -> list[str]:
        return [name.partition("-")[0] for name in wheels_of(pins, machine, tmp_path / "cache").files]

    assert names("agent[all]==1.0") == ["agent", "of_a", "of_b"]
    assert names("agent==1.0", "user==1.0") == ["agent", "of_b", "user"]
    for version in ("1.0", "2.0"):
        requires = ["everywhere", f"of-{'a' if version == '1.0' else 'b'}; extra == 'mujoco'"]
        tiny_wheel(index, "gymnasium", version, requires=requires)
    tiny_wheel(index, "robot", "1.0", requires=["gymnasium[mujoco]", "torch[none]"])
    offer(index, monkeypatch)
    machine = Machine(("3.13",), KAGGLE.has, versions={"gymnasium": "1.0"})
    assert names("robot==1.0") == ["of_a", "robot"], "what the image has stays the image's"
    machine = Machine(("3.13",), KAGGLE.has, versions={"gymnasium": "1.5"})
    assert names("robot==1.0") == ["robot"], "where no wheel tells, the session says"


def test_a_dataset_that_a_session_finds_damaged_is_known_by_its_words(tmp_path: Path) -> None:
    folder = tmp_path / "datasets/ann/km-wheels-0123456789abcdef"
    wheel = tiny_wheel(folder, "agent", "2.9")
    order = {"dataset": "ann/km-wheels-0123456789abcdef", "files": {wheel.name: "0" * 64}}
    said = packages.from_wheels(order, ["agent==2.9"], tmp_path)
    assert wheels.damaged_in(f"Python 3.13\nthe wheels of these packages are not used: {said}\n") == order["dataset"]
    assert wheels.damaged_in("the file in ann/roads is not the file that was sent") == ""


def test_for_a_session_on_this_machine_what_is_installed_here_is_packed_again(index: Path, tmp_path: Path) -> None:
    import hypothesis

    pin = f"hypothesis=={hypothesis.__version__}"
    made = wheels_of([pin], Machine((HERE,), frozenset({"sortedcontainers"}), is_here=True), tmp_path / "cache")
    assert [name.partition("-")[0] for name in made.files] == ["hypothesis"]
    assert wheels_of([pin], Machine((HERE,), frozenset({"hypothesis"}), is_here=True), tmp_path / "cache").files == {}
    if os.name == "nt":
        return
    image = Image(tmp_path / "image")
    (tmp_path / "km-wheels-1").mkdir()
    for path in made.paths:
        path.rename(tmp_path / "km-wheels-1" / path.name)
    order = {"dataset": "ann/km-wheels-1", "files": dict(made.files)}
    assert image.install([pin], order, tmp_path)[0] == ""
    assert image.versions()["hypothesis"] == hypothesis.__version__
    installed = {path.relative_to(image.site) for path in (image.site / "hypothesis").rglob("*.py")}
    here = Path(hypothesis.__file__).parent
    assert installed == {path.relative_to(here.parent) for path in here.rglob("*.py")}


def test_the_same_installation_packs_to_the_same_bytes_and_one_of_a_folder_to_none(tmp_path: Path) -> None:
    first, second = (
        repack("hypothesis", folder) for folder in (tmp_path, tmp_path / "again") if not folder.mkdir(exist_ok=True)
    )
    assert first is not None
    assert second is not None
    assert first.read_bytes() == second.read_bytes()
    assert zipfile.ZipFile(first).testzip() is None
    assert repack("kaggle-manager", tmp_path) is None, "it is of a folder of somebody's"
    assert repack("no-such-package", tmp_path) is None


def test_pip_alone_is_asked_for_kaggles_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> None:
        asked.append(command)
        raise wheels.subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(wheels.subprocess, "run", run)
    with pytest.raises(Unavailable, match=r"did not give agent==2\.9"):
        wheels_of(["agent==2.9"], KAGGLE, tmp_path)
    assert asked[0][:3] == [sys.executable, "-m", "pip"]
    assert "--only-binary=:all:" in asked[0]
    assert "--no-deps" in asked[0]


def test_wheels_are_for_each_python_that_a_session_may_have(tmp_path: Path) -> None:
    def pythons(platform: str, *told: str) -> tuple[str, ...]:
        config = SimpleNamespace(local_kaggle=tmp_path)
        return Connection(None, "ann", platform, "").machine(config, told).pythons  # type: ignore[arg-type]

    assert pythons("kaggle") == ("3.12", "3.13")
    assert pythons("kaggle", "3.12", "3.13", "3.13.15") == ("3.12", "3.13")
    assert pythons("kaggle", "what is this") == ("3.12", "3.13")
    assert pythons("kaggle", "3.13.15") == ("3.13",)
    assert pythons("kaggle", "3.14.0rc1") == ("3.14",)
    assert pythons("local", "3.13.15") == (HERE,)
