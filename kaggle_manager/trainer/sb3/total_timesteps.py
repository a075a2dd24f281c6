"""What of a training follows the number of timesteps it is to have in all, so that another target is another training.

Stable-Baselines3 gives a schedule the part of `total_timesteps` that remains; constants do not look at it.
"""

from __future__ import annotations

from collections.abc import Iterable

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule
from torch import nn

from kaggle_manager.trainer.sb3.arguments import text_of
from kaggle_manager.trainer.sb3.unsaved import is_stock


def what_follows_it(model: BaseAlgorithm, callbacks: Iterable[BaseCallback]) -> list[str]:
    """Names of what follows the total: schedules, and code of the user's, which can read it.

    Args:
        callbacks: the user's.
    """
    own = [text_of(type(each)) for each in (model, *callbacks) if not is_stock(type(each))]
    names = {name for name, value in vars(model).items() if _is_schedule(value)}
    if "lr_schedule" in names:  # made of `learning_rate`, the argument
        names = names - {"lr_schedule"} | {"learning_rate"}
    return [*sorted(names), *own]


def _is_schedule(value: object) -> bool:
    if isinstance(value, FloatSchedule):  # around whatever was given
        value = value.value_schedule
    is_other = isinstance(value, type | nn.Module | ActionNoise | ConstantSchedule)
    return callable(value) and not is_other
