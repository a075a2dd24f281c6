"""A package is known to be missing in a session: neither in Kaggle's image, nor pinned, nor required by what is."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from kaggle_manager.local_kaggle.image_packages import image_packages
from kaggle_manager.sections.model import Kernel, Section
from kaggle_manager.sessions import image_view


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine whose packages are these: a simulator, what it requires, one with an extra, and one of the image's."""
    packages: dict[str, tuple[str, list[str]]] = {
        "km_simulator": ("1.2", ["km-render (>=1)", "numpy", "km_extra_only; extra == 'gui'"]),
        "km_render": ("2.0", []),
        "km_extra_only": ("3.0", []),
        "km_other": ("4.0", []),
        "pandas": ("2.0", ["km_other; python_version > '3'"]),
    }
    for name, (version, requires) in packages.items():
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        lines = [f"Name: {name.replace('_', '-')}", f"Version: {version}", *(f"Requires-Dist: {it}" for it in requires)]
        (info / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")
        (info / "RECORD").write_text(f"{name}/__init__.py,,\n")
        (info / "top_level.txt").write_text(f"{name}\n")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    importlib.invalidate_caches()
    cached = (image_view._here, image_view._modules)
    for each in cached:
        each.cache_clear()
    yield tmp_path
    for each in cached:
        each.cache_clear()


def hidden(*packages: str) -> set[str]:
    section = Section.model_construct(kernel=Kernel(packages=list(packages)))
    return set(image_view.hidden_from(section))


def test_what_is_pinned_comes_with_what_it_requires(machine: Path) -> None:
    assert hidden() == {"km_simulator", "km_render", "km_extra_only"}, "pandas is the image's, and requires km_other"
    assert hidden("km-simulator==1.2") == {"km_extra_only"}
    assert hidden("km-simulator[gui]==1.2") == set()
    assert hidden("KM.Render==2.0") == {"km_simulator", "km_extra_only"}


def test_what_is_to_be_pinned_is_the_package_that_brings_the_others(machine: Path) -> None:
    assert image_view.pins_for(["km_simulator", "km_render", "pandas", "os"], []) == ["km-simulator==1.2"]
    assert image_view.pins_for(["km_render"], ["km-simulator==1.2"]) == []


def test_what_only_the_manager_requires_is_not_in_a_session(machine: Path) -> None:
    info = machine / "kaggle_manager-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: kaggle-manager\nVersion: 0.1\nRequires-Dist: km-render\n")
    (info / "top_level.txt").write_text("kaggle_manager\n")
    assert {"km_render"} <= hidden()
    assert "kaggle_manager" not in hidden()


def put(machine: Path, name: str, *files: str, **texts: str) -> None:
    """Install a distribution that has these files."""
    info = machine / f"{name}-1.0.dist-info"
    info.mkdir()
    for file, text in {
        "METADATA": f"Name: {name}\nVersion: 1.0\n",
        "RECORD": ",,\n".join([*files, ""]),
        **texts,
    }.items():
        (info / file).write_text(text)
    importlib.invalidate_caches()


def test_of_a_folder_that_packages_share_only_what_a_lacking_one_has_is_hidden(machine: Path) -> None:
    put(machine, "protobuf", "google/protobuf/__init__.py", "google/shared/a.py")
    put(machine, "google_thing", "google/thing/__init__.py", "google/shared/b.py", "google/shared/a.py", "google/x.md")
    put(machine, "ns_one", "ns/one/__init__.py")
    put(machine, "ns_two", "ns/two/__init__.py")
    put(machine, "cv_big", "cv/__init__.py", "cv/gui.py")
    put(machine, "cv_small", "cv/__init__.py")
    found = image_view.hidden_from(Section.model_construct(kernel=Kernel()))
    assert {name: pin for name, pin in found.items() if not name.startswith("km_")} == {
        **dict.fromkeys(["google.thing", "google.shared.b"], "google-thing==1.0"),
        "ns.one": "ns-one==1.0",
        "ns.two": "ns-two==1.0",
        "cv": found["cv"],
    }
    assert image_view.pins_for(["google", "google.protobuf.message"], []) == []
    assert image_view.pins_for(["google", "google.thing.deep", "ns.two"], []) == ["google-thing==1.0", "ns-two==1.0"]


def test_a_package_of_a_name_that_python_has_itself_hides_nothing_and_is_not_pinned(machine: Path) -> None:
    put(machine, "argparse", "argparse.py")
    assert "argparse" not in hidden()
    assert image_view.pins_for(["argparse"], []) == []


def test_what_was_installed_from_a_folder_is_nothing_to_pin(machine: Path) -> None:
    of_folder = {"direct_url.json": '{"url": "file:///x", "dir_info": {}}'}
    put(machine, "mine", "mine/__init__.py", **of_folder)
    put(machine, "built", "built.py", INSTALLER="conda\n", **of_folder)  # of the machine that built it
    assert image_view.hidden_from(Section.model_construct(kernel=Kernel()))["mine"] == ""
    assert image_view.pins_for(["mine", "built"], []) == ["built==1.0"]


def test_an_extra_that_is_one_of_several_brings_what_it_requires(machine: Path) -> None:
    requires = "Requires-Dist: km_render; extra == 'gui' or extra == 'All_of'\n"
    put(machine, "bar", "bar.py", METADATA=f"Name: bar\nVersion: 1.0\n{requires}")
    assert "km_render" in hidden("bar==1.0")
    assert "km_render" not in hidden("bar[gui]==1.0")
    assert "km_render" not in hidden("bar[all-of]==1.0")


def test_the_list_of_the_image_has_what_training_needs_but_stable_baselines() -> None:
    names = {canonicalize_name(name) for name in image_packages()}
    assert {"torch", "numpy", "gymnasium", "pydantic", "pandas", "cloudpickle", "tensorboard", "ale-py"} <= names
    assert not {"stable-baselines3", "mujoco", "libsumo", "kaggle-manager"} & names
