"""What machine a push gets. Here an accelerator is only a name: it decides limits and quota, never the device."""

from __future__ import annotations

from typing import Literal, NamedTuple

from kaggle_manager.local_kaggle.database import Limits
from kaggle_manager.local_kaggle.serialization import Body, bad_request
from kaggle_manager.system.accelerators import find

Kind = Literal["CPU", "GPU", "TPU"]


class Machine(NamedTuple):
    shape: str
    accelerator: Kind


def machine_of(body: Body) -> Machine:
    """The machine a push gets: `machineShape`, or the older booleans; for a retired one its successor."""
    shape = str(body.get("machineShape") or "")
    if not shape:
        shape = "NvidiaTeslaT4" if body.get("enableGpu") else "TpuV5E8" if body.get("enableTpu") else ""
    if shape.lower() in ("", "none"):
        return Machine("", "CPU")
    asked = find(shape)
    if asked is None:
        raise bad_request(f"Unknown machine shape {shape}.")
    if asked.successor is None:
        return Machine(asked.name, asked.kind)
    return machine_of({"machineShape": asked.successor})


def time_limit(machine: Machine, asked: int, limits: Limits) -> float:
    """Seconds a session may run: what was asked for (0: nothing), within the machine's own limit."""
    longest = limits.tpu_session_s if machine.accelerator == "TPU" else limits.session_s
    return min(float(asked), longest) if asked > 0 else longest


def room(accelerator: str, limits: Limits) -> int:
    """How many sessions of `accelerator` may run at once."""
    return {"CPU": limits.cpu_sessions, "GPU": limits.gpu_sessions, "TPU": limits.tpu_sessions}[accelerator]
