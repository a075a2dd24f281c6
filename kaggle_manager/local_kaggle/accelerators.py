"""Accelerators as Kaggle names them. Here they are only names: they decide limits and quota, never the device."""

from __future__ import annotations

from typing import Literal, NamedTuple

from kaggle_manager.local_kaggle.database import Limits
from kaggle_manager.local_kaggle.serialization import Body, bad_request

Accelerator = Literal["CPU", "GPU", "TPU"]

# Machines Kaggle retired, and what a session that asks for one runs on.
_RETIRED = {
    "nvidiateslap100": "NvidiaTeslaT4",
    "tpuv38": "TpuV5E8",
    "tpu1vmv38": "TpuV5E8",
    "tpuv232": "",
    "tpuv2256": "",
}


class Machine(NamedTuple):
    shape: str
    accelerator: Accelerator


def machine_of(body: Body) -> Machine:
    """The machine a push asks for: `machineShape`, or the older booleans."""
    shape = str(body.get("machineShape") or "")
    if not shape:
        shape = "NvidiaTeslaT4" if body.get("enableGpu") else "TpuV5E8" if body.get("enableTpu") else ""
    shape = _RETIRED.get(shape.lower(), shape)
    if shape.lower() in ("", "none"):
        return Machine("", "CPU")
    if shape.lower().startswith("nvidia"):
        return Machine(shape, "GPU")
    if shape.lower().startswith("tpu"):
        return Machine(shape, "TPU")
    raise bad_request(f"Unknown machine shape {shape}.")


def time_limit(machine: Machine, asked: int, limits: Limits) -> float:
    """Seconds a session may run: what was asked for (0: nothing), within the machine's own limit."""
    longest = limits.tpu_session_s if machine.accelerator == "TPU" else limits.session_s
    return min(float(asked), longest) if asked > 0 else longest


def room(accelerator: str, limits: Limits) -> int:
    """How many sessions of `accelerator` may run at once."""
    return {"CPU": limits.cpu_sessions, "GPU": limits.gpu_sessions, "TPU": limits.tpu_sessions}[accelerator]
