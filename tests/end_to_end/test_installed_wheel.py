"""The wheel as a user installs it: beside a package called `kernels`, and used in an empty folder.

Its dependencies are those of the environment that runs the tests, so nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kaggle_manager.local_kaggle.launcher import stop

ROOT = Path(__file__).resolve().parents[2]
# What a wheel is built from, and packages beside it that must not get into it.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "kaggle_manager", "kernels", "validation_ch7", "scripts")
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """A fresh environment with the wheel in it."""

    wheel: Path
    python: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        ours = ("KAGGLE_", "KM_", "PYTHON", "XDG_", "VIRTUAL_ENV")
        found = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**found, "HOME": str(self.home), "USERPROFILE": str(self.home), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, folder: Path, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [str(self.python), *arguments],
            cwd=folder,
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            timeout=280,
            check=False,
        )
        assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def km(self, folder: Path, *arguments: str, code: int = 0) -> str:
        return self.run(folder, "-m", "kaggle_manager.cli", *arguments, code=code)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    base = tmp_path_factory.mktemp("wheel")
    (base / "source").mkdir()
    for name in SOURCES:  # a build leaves files beside what it builds
        if (ROOT / name).is_dir():
            unneeded = shutil.ignore_patterns("data", "__pycache__")
            shutil.copytree(ROOT / name, base / "source" / name, ignore=unneeded)
        else:
            shutil.copy(ROOT / name, base / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["-q", "--no-index", "--no-deps"]
    build = [*pip, "wheel", *offline, "--no-build-isolation", "-w", str(base / "wheels"), str(base / "source")]
    subprocess.run(build, check=True)
    (wheel,) = (base / "wheels").iterdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(base / "env")], check=True)
    python = base / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = site_packages(python)
    # Only the folder: the .pth files in it, one of which would bring this repository, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    (site / "kernels").mkdir()
    (site / "kernels/__init__.py").write_text('WHOSE = "not ours"\n', encoding="utf-8")
    subprocess.run([*pip, "--python", str(python), "install", *offline, str(wheel)], check=True)
    (base / "home").mkdir()
    return Installed(wheel, python, base / "home")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """An empty folder; the local Kaggle that a run starts in it is stopped."""
    folder = tmp_path / "empty"
    folder.mkdir()
    yield folder
    if (folder / ".kaggle_manager/local_kaggle").is_dir():
        stop(folder / ".kaggle_manager/local_kaggle")


def site_packages(python: Path) -> Path:
    line = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([str(python), "-c", line], capture_output=True, text=True, check=True).stdout.strip())


def files_below(*folders: Path) -> dict[Path, int]:
    """Every file with the time of its last change, in nanoseconds."""
    found = (path for folder in folders for path in folder.rglob("*"))
    return {path: path.stat().st_mtime_ns for path in found if path.is_file() and "__pycache__" not in path.parts}


def test_a_wheel_holds_one_package_with_its_data_and_its_licence(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        described = archive.read(metadata).decode()
    information = metadata.partition("/")[0]
    assert {name.partition("/")[0] for name in names} == {"kaggle_manager", information}
    assert f"{information}/licenses/LICENSE" in names
    data = ("py.typed", "sections/templates/section.toml.template", "dashboard/static")
    assert all(any(name.startswith(f"kaggle_manager/{entry}") for name in names) for entry in data)
    assert "\nLicense-Expression: MIT\n" in described
    trains = [line for line in described.splitlines() if 'extra == "train"' in line]
    assert trains
    assert not any("sumo" in line for line in trains)


def test_without_a_project_it_says_how_to_begin_and_writes_nothing(installed: Installed, empty: Path) -> None:
    before = files_below(site_packages(installed.python))
    for line in ("status", "run mine --quick", "checkpoints ls", "dashboard --html page.html"):
        assert "km init NAME" in installed.km(empty, *line.split(), code=2)
    assert installed.km(empty, "--version").strip()
    assert list(empty.iterdir()) == []
    assert files_below(site_packages(installed.python)) == before


def test_a_new_section_is_trained_in_its_folder_alone_and_kernels_stays_another_package(
    installed: Installed, empty: Path
) -> None:
    whose = "import kaggle_manager, kernels; print(kaggle_manager.__file__, kernels.WHOSE)"
    said = installed.run(empty, "-c", whose).split(maxsplit=1)
    assert Path(said[0]).is_relative_to(site_packages(installed.python))
    assert said[1].strip() == "not ours"
    elsewhere = [site_packages(installed.python), installed.home]
    before = files_below(*elsewhere)
    installed.km(empty, "init", "mine")
    assert (empty / "sections/mine/section.toml").is_file()
    kaggle = empty / ".kaggle_manager/local_kaggle"
    kaggle.mkdir(parents=True)
    (kaggle / "limits.json").write_text('{"ingestion_s": 0.0}')
    said = installed.km(empty, "run", "mine", "--quick", "--platform", "local")
    assert "Resumed from step" in said
    assert "over 2 sessions" in said
    assert list((empty / "sections/mine/data/models_quick").rglob("*.manifest.json"))
    assert files_below(*elsewhere) == before
    assert [path.name for path in empty.parent.iterdir()] == ["empty"]
    assert "FINISHED  mine (quick)" in installed.km(empty, "status")
