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


def test_a_module_that_travels_is_never_hidden(machine: Path) -> None:
    (machine / "code").mkdir()
    (machine / "code/km_render.py").write_text("")
    section = Section.model_construct(kernel=Kernel())
    assert "km_render" not in image_view.hidden_from(section, machine / "code")


def test_the_list_of_the_image_has_what_training_needs_but_stable_baselines() -> None:
    names = {canonicalize_name(name) for name in image_packages()}
    assert {"torch", "numpy", "gymnasium", "pydantic", "pandas", "cloudpickle", "tensorboard", "ale-py"} <= names
    assert not {"stable-baselines3", "mujoco", "libsumo", "kaggle-manager"} & names
