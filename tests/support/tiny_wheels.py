"""Wheels of a few bytes, an index of them on disk, and an image that has distributions in name only."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def tiny_wheel(
    folder: Path, name: str, version: str, *, requires: Sequence[str] = (), tag: str = "py3-none-any"
) -> Path:
    """A wheel of the distribution `name`, whose module `name` has its version as `VERSION`."""
    stem = f"{name.replace('-', '_')}-{version}"
    info, module = f"{stem}.dist-info", f"{name.replace('-', '_')}.py"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {each}\n" for each in requires)
    files = {
        module: f"VERSION = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{each},,\n" for each in [*files, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(each, (2020, 1, 1, 0, 0, 0)), content)
    return path


def index_of(folder: Path) -> str:
    """The address of a package index of the wheels in `folder`, for pip."""
    names = {path.name.partition("-")[0].replace("_", "-") for path in folder.glob("*.whl")}
    for name in names:
        page = folder / "simple" / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        wheels = folder.glob(f"{name.replace('-', '_')}-*.whl")
        page.write_text("".join(f'<a href="{path.as_uri()}">{path.name}</a>\n' for path in wheels))
    return (folder / "simple").as_uri()


@dataclass
class Image:
    """A Python with pip and what is put in it, as a session finds it: what is installed in it stays in its folder."""

    folder: Path
    index: str = "http://127.0.0.1:9/simple"  # nothing answers there
    refused: bool = False  # whether what went wrong last cannot go better later
    unfit: bool = False  # or only with other wheels

    def __post_init__(self) -> None:
        venv.EnvBuilder(symlinks=os.name != "nt").create(self.folder)
        scheme = {"base": str(self.folder), "platbase": str(self.folder)}
        self.site = Path(sysconfig.get_path("purelib", "venv", scheme))
        self.python = Path(sysconfig.get_path("scripts", "venv", scheme)) / "python"
        import pip

        (self.site / "pip").symlink_to(Path(pip.__file__).parent)

    def has(self, name: str, version: str) -> None:
        with zipfile.ZipFile(tiny_wheel(self.folder / "built", name, version)) as archive:
            archive.extractall(self.site)

    def versions(self) -> dict[str, str]:
        stems = (path.stem.partition("-") for path in self.site.glob("*.dist-info"))
        return {name.replace("_", "-"): version for name, _, version in stems}

    def install(
        self, packages: Sequence[str], wheels: dict[str, Any] | None = None, inputs: Path = Path("nowhere")
    ) -> tuple[str, str]:
        """Have `trainer/packages.py` install them in it; what went wrong, and what it said."""
        order, problem = self.folder / "order.json", self.folder / "problem.txt"
        order.write_text(json.dumps({"packages": list(packages), "wheels": wheels}))
        problem.unlink(missing_ok=True)
        package = (ROOT / "kaggle_manager/trainer/packages.py").read_text()  # alone: standard library only
        program = package + f"\nMOUNT_WAIT_S = PAUSE_S = 0.0\nmain({str(order)!r}, {str(problem)!r})\n"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        environment = kept | {
            "PIP_INDEX_URL": self.index,
            "PIP_CONFIG_FILE": os.devnull,
            "KM_INPUT_DIR": str(inputs),
        }
        command = [str(self.python), "-"]
        done = subprocess.run(command, input=program, text=True, capture_output=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        told = json.loads(problem.read_text()) if problem.exists() else {"reason": "", "refused": False, "unfit": False}
        self.refused, self.unfit = told["refused"], told["unfit"]
        return told["reason"], done.stdout + done.stderr
