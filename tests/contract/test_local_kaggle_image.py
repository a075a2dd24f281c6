"""A session has the distributions of its image, in this machine's versions, and what it installs; nothing else."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name
from tiny_wheels import tiny_wheel

from kaggle_manager.local_kaggle import image_site

posix = pytest.mark.skipif(os.name == "nt", reason="links are made")

LOOK = """
import importlib.metadata, importlib.util, json, subprocess, sys
program = (
    "import importlib.metadata, importlib.util, json, sys;"
    "print(json.dumps({'found': [n for n in sys.argv[1:] if importlib.util.find_spec(n)], "
    "'installed': sorted(d.metadata['Name'].lower() for d in importlib.metadata.distributions())}))"
)
names = %r
for flags in ([], ["-I"], ["-E", "-s"]):
    print(subprocess.check_output([sys.executable, *flags, "-c", program, *names], text=True).strip())
for pip in ([sys.executable, "-m", "pip"], ["pip"]):
    listed = json.loads(subprocess.check_output([*pip, "--disable-pip-version-check", "list", "--format", "json"]))
    print(json.dumps({"pip": sorted(each["name"].lower() for each in listed)}))
"""


@posix
def test_it_sees_what_is_listed_and_so_do_its_children_and_pip(client: Any) -> None:
    hidden = {"stable-baselines3", "kaggle-manager", "hypothesis", "pytest-xdist"}
    names = ["numpy", "pydantic", "stable_baselines3", "kaggle_manager", "hypothesis", "xdist", "ruff"]
    said = [json.loads(line) for line in client.run(LOOK % names).splitlines() if line.startswith("{")]
    assert len(said) == 5
    for each in said:
        assert each.get("found", ["numpy", "pydantic"]) == ["numpy", "pydantic"]
        seen = set(each.get("installed") or each["pip"])
        assert {"numpy", "pydantic", "pip"} <= seen
        assert not seen & hidden
        assert len(seen) > 20


@posix
def test_versions_are_this_machines_and_nothing_is_there_twice(client: Any) -> None:
    import numpy

    log = client.run("import numpy, pathlib\nprint(numpy.__version__, pathlib.Path(numpy.__file__).resolve())")
    assert log.split() == [numpy.__version__, str(Path(numpy.__file__).resolve())]


@posix
def test_what_a_session_installs_is_its_own_and_hides_the_images_version(client: Any, tmp_path: Path) -> None:
    here = importlib.metadata.version("tqdm")
    wheels = [tiny_wheel(tmp_path, "agent", "2.9", requires=["helper"]), tiny_wheel(tmp_path, "tqdm", "999.0")]
    client.ready_dataset({wheel.name: wheel.read_bytes() for wheel in wheels})
    inputs = "os.environ.get('KAGGLE_INPUT_DIR', '/kaggle/input') + '/little-data'"
    source = (
        "import importlib.metadata, os, subprocess, sys\n"
        f"subprocess.check_call([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-index', '--no-deps', "
        f"'--disable-pip-version-check', '--find-links', {inputs}, 'agent', 'tqdm==999.0'])\n"
        "look = 'import agent, tqdm; print(agent.VERSION, tqdm.VERSION)'\n"
        "print(subprocess.check_output([sys.executable, '-c', look], text=True))\n"
    )
    assert "2.9 999.0" in client.run(source, dataset_data_sources=["local/little-data"])
    after = client.run(
        "import importlib.metadata, importlib.util\n"
        "print(importlib.metadata.version('tqdm'), importlib.util.find_spec('agent'))"
    )
    assert after.split() == [here, "None"]
    assert importlib.metadata.version("tqdm") == here, "and this machine's is as it was"
    assert Path(str(importlib.metadata.distribution("tqdm").locate_file("tqdm/__init__.py"))).is_file()


@posix
def test_a_list_in_the_root_stands_in_the_place_of_kaggles(loopback: Any) -> None:
    local = loopback()
    (local.root / image_site.LIST.name).write_text("# an image of little\nPydantic==2.0  # any version will do\npip\n")
    said = json.loads(local.client.run(LOOK % ["numpy", "pydantic"]).splitlines()[0])
    assert said["found"] == ["pydantic"]
    assert {"pydantic", "typing_extensions"} <= set(said["installed"]), "and what it requires"


def put(site: Path, name: str, files: list[str], *, requires: str = "", record: bool = True) -> None:
    """Install a distribution in `site`, as far as its files go."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n{requires}\n\nRequires-Dist: from-the-description\n")
    for file in files:
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(f"NAME = {name!r}\n")
    if record:
        (info / "RECORD").write_text(
            "".join(f'"{file}",,\n' for file in [*files, f"{info.name}/METADATA", "../../bin/x"])
        )
    else:
        (info / "top_level.txt").write_text("\n".join({file.partition("/")[0] for file in files}))


@posix
def test_folders_that_distributions_share_show_what_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site-packages"
    put(site, "nvidia-one-cu13", ["nvidia/__init__.py", "nvidia/one/lib.so", "nvidia/cu13/lib/one.so"])
    put(site, "nvidia-two-cu13", ["nvidia/__init__.py", "nvidia/two/lib.so", "nvidia/cu13/lib/two.so"])
    put(site, "alone", ["alone/__init__.py", "alone/deep/data.bin", "alone_module.py", "__pycache__/x.pyc"])
    put(site, "old-kind", ["old/__init__.py"], record=False)
    put(site, "needed", ["needed.py"])
    put(site, "extra", ["extra.py"])
    put(site, "from-the-description", ["described.py"])
    put(
        site,
        "torch",
        ["torch/__init__.py"],
        requires="Requires-Dist: nvidia_one.cu13 (==1) ; platform_system == 'Linux'\n"
        "Requires-Dist: needed[x]>=1\nRequires-Dist: extra ; extra == 'all'",
    )
    (site / "nobodys.py").touch()
    monkeypatch.setattr(sys, "path", [str(site), str(tmp_path / "gone"), sysconfig.get_path("stdlib")])
    seen = image_site.view(tmp_path / "images", ["torch", "alone", "old-kind", "not-here"]) / "site"
    found = {path.relative_to(seen).as_posix() for path in seen.rglob("*") if path.is_file() or path.is_symlink()}
    found = {name for name in found if not name.startswith("pip/")}
    assert {name for name in found if "dist-info" not in name} == {
        *("nvidia/__init__.py", "nvidia/one", "nvidia/cu13/lib/one.so", "torch", "needed.py"),
        *("alone", "alone_module.py", "old"),
    }
    assert (seen / "alone/deep/data.bin").is_file()
    again = image_site.view(tmp_path / "images", ["alone", "torch", "old-kind"]) / "site"
    assert again == seen, "made once"
    assert (seen / "pip/__main__.py").is_file(), "as an image has it, also where this machine has none"
    put(site, "new", ["new.py"])
    assert (image_site.view(tmp_path / "images", ["new"]) / "site/new.py").is_file(), "and anew after an installation"


def test_kaggles_list_has_what_a_session_counts_on_and_not_what_it_lacks() -> None:
    names = image_site.listed()
    assert {"torch", "numpy", "gymnasium", "pydantic", "cloudpickle", "tensorboard", "pip"} <= names
    assert not names & {"stable-baselines3", "sb3-contrib", "libsumo", "sumolib", "traci", "sumo-rl", "kaggle-manager"}
    assert all(name == canonicalize_name(name) for name in names)
