"""Kaggle's machines with an accelerator: the names it accepts, and what a session that asks for one really gets.

The one list, for section.toml, the trainer, `doctor`, `forecast` and the local Kaggle. The names are those of the
official client's documentation and of its table of retired machines (kaggle 2.2.5, `_RETIRED_ACCELERATORS`).
"""

from __future__ import annotations

import difflib
import re
from typing import Literal, NamedTuple


class Accelerator(NamedTuple):
    """A machine as Kaggle names it.

    Attributes:
        model: of its GPU, a word of the name that the driver gives it ("Tesla T4", "NVIDIA L4"); "" for a TPU.
        successor: the machine that Kaggle gives instead of a retired one; None for one that is not retired, "" where
            it gives one without an accelerator.
        remark: what somebody who asks for it should know; "" for nothing.
    """

    name: str
    kind: Literal["GPU", "TPU"]
    model: str = ""
    successor: str | None = None
    remark: str = ""


_NOT_FOR_ALL = "Kaggle gives it to participants of some competitions, or to its own staff"
_RETIRED = "Kaggle retired it in September 2026: a session gets two T4s, of which a training uses one"
_RETIRED_TPU = "Kaggle retired it"

ACCELERATORS = (
    Accelerator("NvidiaTeslaT4", "GPU", "T4"),
    Accelerator("NvidiaTeslaP100", "GPU", "P100", successor="NvidiaTeslaT4", remark=_RETIRED),
    Accelerator("NvidiaTeslaT4Highmem", "GPU", "T4", remark=_NOT_FOR_ALL),
    Accelerator("NvidiaL4", "GPU", "L4", remark=_NOT_FOR_ALL),
    Accelerator("NvidiaL4X1", "GPU", "L4", remark=_NOT_FOR_ALL),
    Accelerator("NvidiaTeslaA100", "GPU", "A100", remark=_NOT_FOR_ALL),
    Accelerator("NvidiaH100", "GPU", "H100", remark=_NOT_FOR_ALL),
    Accelerator("NvidiaRtxPro6000", "GPU", "RTX PRO 6000", remark=_NOT_FOR_ALL),
    Accelerator("TpuV5E8", "TPU"),
    Accelerator("TpuV6E8", "TPU", remark=_NOT_FOR_ALL),
    Accelerator("TpuV38", "TPU", successor="TpuV5E8", remark=_RETIRED_TPU),
    Accelerator("Tpu1VmV38", "TPU", successor="TpuV5E8", remark=_RETIRED_TPU),
    Accelerator("TpuV232", "TPU", successor="", remark=_RETIRED_TPU),
    Accelerator("TpuV2256", "TPU", successor="", remark=_RETIRED_TPU),
)
"""Every name that a push may carry; Kaggle reads them without regard to case."""

WORTHWHILE_GAIN = 1.2
"""An accelerator that is less than this much faster than the CPU is not worth its quota."""

ANY_GPU = "any GPU"
"""What a session is told to have where machines have other names than Kaggle's."""

_BY_NAME = {each.name.lower(): each for each in ACCELERATORS}
TRAINS_ON = tuple(each.name for each in ACCELERATORS if each.kind == "GPU")


def find(name: str) -> Accelerator | None:
    """The machine of that name; None when Kaggle has none."""
    return _BY_NAME.get(name.lower())


def runs_on(accelerator: str | None) -> str:
    """What a session of this machine counts as: "GPU", "TPU", or "CPU" without an accelerator."""
    machine = find(accelerator or "")
    return machine.kind if machine else "CPU"


def checked(name: str) -> str:
    """`name`, of a machine that this program can train on.

    Raises:
        ValueError: it is none; says which are.
    """
    machine = find(name)
    if machine is not None and machine.kind == "TPU":
        raise ValueError("a GPU or, left out, the CPU: Stable-Baselines3 cannot train on a TPU")
    if machine is None or machine.name != name:
        guess = machine.name if machine else _meant(name)
        raise ValueError(f"{', '.join(TRAINS_ON)}; left out for the CPU{f'. Did you mean {guess}?' if guess else ''}")
    return name


def _meant(name: str) -> str:
    """The machine that a name without Kaggle's prefix, or with a slip, is probably meant to be; "" for none."""
    short = name.lower().replace(" ", "").replace("-", "")
    for each in ACCELERATORS:
        if each.kind == "GPU" and each.model.lower().replace(" ", "") in short:
            return each.name
    close = difflib.get_close_matches(short, [each.lower() for each in TRAINS_ON], n=1)
    return _BY_NAME[close[0]].name if close else ""


def remark(name: str | None) -> str:
    """What somebody who asks for that machine should know, in one line; "" for nothing."""
    machine = find(name or "")
    return f"{machine.name}: {machine.remark}" if machine and machine.remark else ""


def is_what_was_asked(asked: str, found: str) -> bool:
    """Whether a GPU that its driver calls `found` ("Tesla T4") is of the machine `asked`, or of its successor."""
    if asked == ANY_GPU:
        return bool(found)
    machine = find(asked)
    models = [each.model for each in (machine, find(machine.successor or "")) if each] if machine else []
    return any(re.search(rf"\b{model}\b", found, re.IGNORECASE) for model in models)
