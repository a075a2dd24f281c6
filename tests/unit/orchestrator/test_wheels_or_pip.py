"""Without wheels a session with internet installs with pip; one without internet is not started."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from small_project import Told

from kaggle_manager.errors import AuthError, ConfigError, KaggleManagerError, Unavailable
from kaggle_manager.orchestrator import wheels as room
from kaggle_manager.platforms.platform import Limits
from kaggle_manager.sections.model import Kernel
from kaggle_manager.sessions.wheels import Machine


def run_of(kernel: Kernel, tmp_path: Any, *sessions: tuple[str, str], installs: bool = True) -> Any:
    """A run whose sessions had these images and told of these versions of Python, if any.

    Args:
        installs: its sessions may install packages; else they run this Python as it is.
    """
    asked: list[tuple[str, ...]] = []

    def machine(_config: object, pythons: Any) -> Machine:
        asked.append(tuple(pythons))
        return Machine(tuple(pythons), frozenset())

    told, limits = Told(), Limits(43_200.0, {}, 1, session_installs=installs)
    client = SimpleNamespace(limits=lambda: limits, has_this_python=lambda: not installs)
    return SimpleNamespace(
        config=SimpleNamespace(section=SimpleNamespace(kernel=kernel), state=tmp_path),
        connection=SimpleNamespace(client=client, machine=machine, platform="kaggle"),
        reporter=told,
        warn_once=told.warn,
        sessions=[
            SimpleNamespace(facts={"image": image} | ({"versions": {"python": python}} if python else {}))
            for image, python in sessions
        ],
        asked=asked,
    )


@pytest.mark.parametrize("error", [Unavailable("no index answers"), ConfigError("there is no wheel of it")], ids=str)
def test_what_cannot_be_had_is_left_to_pip_where_there_is_internet(
    error: KaggleManagerError, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(room, "wheels_of", fails)
    run = run_of(Kernel(packages=["agent==2.9"]), tmp_path)
    assert room.mountable_wheels(run, "") is None
    assert error.message in run.reporter.text.getvalue()
    before = error.message
    with pytest.raises(type(error), match=f"Sessions of this section have no internet. {before}"):
        room.mountable_wheels(run_of(Kernel(packages=["agent==2.9"], internet=False), tmp_path), "")


def test_an_account_that_is_refused_is_said_at_once(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AuthError("the token is not known")

    monkeypatch.setattr(room, "wheels_of", refused)
    with pytest.raises(AuthError):
        room.mountable_wheels(run_of(Kernel(packages=["agent==2.9"]), tmp_path), "")


def test_where_sessions_install_nothing_what_this_python_lacks_is_named_and_no_wheel_is_made(tmp_path: Any) -> None:
    here = f"pytest=={pytest.__version__}"
    run = run_of(Kernel(packages=[here]), tmp_path, installs=False)
    assert room.mountable_wheels(run, "") is None
    lacking = run_of(Kernel(packages=[here, "pytest-timeout==0.1", "nowhere==1.0"]), tmp_path, installs=False)
    with pytest.raises(ConfigError, match=r"pins pytest-timeout==0\.1, nowhere==1\.0, which is not") as refused:
        room.mountable_wheels(lacking, "")
    assert refused.value.next_step.endswith("-m pip install pytest-timeout==0.1 nowhere==1.0")
    assert run.asked == lacking.asked == []


def test_a_section_without_packages_asks_nothing(tmp_path: Any) -> None:
    run = run_of(Kernel(), tmp_path)
    assert room.mountable_wheels(run, "") is None
    assert run.asked == []


@pytest.mark.parametrize(
    ("image", "pythons"),
    [
        ("a", ["3.12.13"]),
        ("b", ["3.14.1"]),
        ("", ["3.12", "3.13", "3.14.1"]),  # the newest, or nobody said which
        ("c", ["3.12", "3.13", "3.14.1"]),  # which another session moved to, that told of nothing
    ],
)
def test_wheels_are_for_the_python_that_a_session_told_of_the_image_else_for_each_it_may_have(
    image: str, pythons: list[str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "wheels_of", lambda *_: SimpleNamespace(files={}))
    told = [("", "3.11.2"), ("a", "3.12.13"), ("b", "3.13.15"), ("b", "3.14.1"), ("c", "")]
    run = run_of(Kernel(packages=["agent==2.9"]), tmp_path, *told)
    assert room.mountable_wheels(run, image) is None
    assert run.asked == [tuple(pythons)]


def test_a_local_kaggle_without_torch_trains_nothing_and_downloads_no_gigabytes(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run = run_of(Kernel(packages=["agent==2.9"]), tmp_path)
    run.connection.platform = "local"
    with pytest.raises(ConfigError, match="torch is not"):
        room.mountable_wheels(run, "")
    assert run.asked == []
