"""What the id of a gymnasium environment says by itself: which module registers it, and which package brings it.

Environments that tuned hyperparameters are written for. Of any other, an id says nothing; what a package is seen to
bring where it is installed comes before what stands here.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable
from dataclasses import dataclass

TESTED = {"mujoco": "3.17.0", "box2d": "2.3.10", "minigrid": "3.2.0", "ale-py": "0.12.1", "rl_zoo3": "2.9.2"}
"""Versions this program was tested with, for a machine that has none."""
_BY_MODULE = {"ale_py": "ale-py", "minigrid": "minigrid", "rl_zoo3": "rl_zoo3"}


@dataclass(frozen=True)
class Family:
    """Environments of one kind.

    Attributes:
        ids: a pattern of their ids, without a module.
        module: what registers them; "" for gymnasium itself.
        package: what brings them beside gymnasium, as an index calls it.
        wrapper: what makes their observations, of which some are texts, ones that can be learned from; "" for none.
    """

    ids: str
    module: str = ""
    package: str = ""
    wrapper: str = ""


ATARI = Family(r"ALE/.+|.+(NoFrameskip|Deterministic)-v\d+", "ale_py", "ale-py")
MINIGRID = Family(r"(MiniGrid|BabyAI)-.+", "minigrid", "minigrid", "minigrid.wrappers:FlatObsWrapper")
PANDA = Family(r"Panda\w+-v\d+", "panda_gym", "panda-gym")
_FAMILIES = (
    ATARI,
    MINIGRID,
    PANDA,
    Family(r"\w+NoVel-v\d+", "rl_zoo3.import_envs", "rl_zoo3"),
    Family(r"\w*Bullet\w*-v\d+", "pybullet_envs_gymnasium", "pybullet_envs_gymnasium"),
    Family(r"Fetch\w+-v\d+", "gymnasium_robotics", "gymnasium-robotics"),
    Family(r"parking-v\d+", "highway_env", "highway-env"),
    Family(r"donkey-.+", "gym_donkeycar"),
    Family(r"RocketLander-v\d+", "rocket_lander_gym"),
    Family(r"(BipedalWalker(Hardcore)?|CarRacing|LunarLander(Continuous)?)-v\d+", package="box2d"),
    Family(
        r"(Ant|HalfCheetah|Hopper|Humanoid(Standup)?|Inverted(Double)?Pendulum|Pusher|Reacher|Swimmer|Walker2d)-v\d+",
        package="mujoco",
    ),
)


def family_of(id: str) -> Family | None:
    """The kind of an id, which may begin with a module; None for one that is not known."""
    module, _, name = id.rpartition(":")
    for family in _FAMILIES:
        if re.fullmatch(family.ids, name) or (module and family.module == module):
            return family
    return None


def with_module(id: str) -> str:
    """The id as `gymnasium.make` takes it, with the module that registers it."""
    family = family_of(id)
    return f"{family.module}:{id}" if family and family.module and ":" not in id else id


def pins_by_text(id: str, objects: Iterable[str]) -> list[str]:
    """Pins of what brings an environment, and objects (`module:Name`) that are put around it, as far as text says so.

    The version is the installed one, else the tested one; what has neither is left out.
    """
    family = family_of(id)
    modules = [*id.split(":")[:-1], *(name.partition(":")[0] for name in objects)]
    names = [family.package if family else "", *(_BY_MODULE.get(each.partition(".")[0], "") for each in modules)]
    pins = {name: installed(name) or TESTED.get(name, "") for name in names if name}
    return [f"{name}=={version}" for name, version in pins.items() if version]


def installed(package: str) -> str:
    """The version that is installed here; "" for none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
