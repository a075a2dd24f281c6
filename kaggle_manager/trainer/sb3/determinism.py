"""The arithmetic a run is computed with: pinned before torch starts, fingerprinted in every checkpoint.

Floating-point results depend on the instruction set, the number of threads and the versions of the libraries. `pin`
fixes what can be fixed from outside; `fingerprint` names all of it and adds the digest of a small fixed computation,
so that two machines whose names agree but whose bits do not are told apart. Nothing here draws random numbers or
touches a training.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kaggle_manager.system.arithmetic import ABOVE_AVX2, THREADS, pinned


def pin() -> None:
    """Set the variables that NumPy, torch and the BLAS libraries read when they are loaded, and load NumPy under them.

    A library that is loaded already reads none: `not_pinned` and the fingerprint tell, for both look at what is used.
    """
    os.environ.update(pinned(os.environ))
    with warnings.catch_warnings(), contextlib.suppress(ModuleNotFoundError):
        # It has other names for its features in each release, and warns of those it does not know.
        warnings.simplefilter("ignore", ImportWarning)
        import numpy  # noqa: F401


def not_pinned() -> str:
    """What this process computes with above the pinned instruction set, in words; "" when nothing."""
    import torch

    above = ", ".join(name for name in numpy_features() if name in ABOVE_AVX2)
    torchs = torch.backends.cpu.get_cpu_capability()
    used = {"NumPy": above, "torch": torchs if torchs.startswith("AVX512") else ""}
    return " and ".join(f"{library} uses {what}" for library, what in used.items() if what)


def numpy_features() -> list[str]:
    """The instruction sets above its baseline that NumPy chooses among here, by its own names."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__  # type: ignore[import-not-found]

    return [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]


def make_deterministic(device: str) -> None:
    """Fix the thread count, and deterministic kernels where the device has a choice of them. Call before training.

    An operation without a deterministic kernel is a warning of torch, which `nondeterminism_noted` hears, not an error:
    a training that cannot be exact is worth more than none.

    Args:
        device: "cpu", or a torch device such as "cuda:0".
    """
    import torch

    torch.set_num_threads(THREADS)
    if device.startswith("cuda"):
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


# How torch's two warnings of an operation without a deterministic kernel read; the first names it.
_NOT_DETERMINISTIC = r"(?s)(?:(\S+) does not have a deterministic implementation|.*Deterministic behavior was enabled)"


@contextmanager
def nondeterminism_noted(note: Callable[[str], None]) -> Iterator[None]:
    """Call `note` with the name of each operation that is used inside and has no deterministic kernel, once or more."""
    with warnings.catch_warnings():
        warnings.filterwarnings("default", message=_NOT_DETERMINISTIC)
        show = warnings.showwarning

        def hear(message: Warning | str, *rest: Any, **more: Any) -> None:
            if found := re.match(_NOT_DETERMINISTIC, str(message)):
                note(found[1] or "a matrix product of CuBLAS")
            else:
                show(message, *rest, **more)

        warnings.showwarning = hear
        yield


def fingerprint(device: str = "cpu") -> dict[str, Any]:
    """Everything known to change bits, by name; JSON values. Costs a few milliseconds."""
    import gymnasium
    import numpy
    import stable_baselines3
    import torch

    on_gpu = device.startswith("cuda")
    return {
        "python": platform.python_version(),
        "machine": f"{sys.platform}-{platform.machine()}",
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "gymnasium": gymnasium.__version__,
        "stable_baselines3": stable_baselines3.__version__,
        "threads": torch.get_num_threads(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "numpy_features": numpy_features(),
        "mkl_cbwr": os.environ.get("MKL_CBWR"),
        "openblas": os.environ.get("OPENBLAS_CORETYPE"),
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": _cudnn_version() if on_gpu else None,
        "probe": _probe(device),
    }


def _cudnn_version() -> str:
    """Names also a cuDNN that torch finds unfit: it must not end a training that may never use it."""
    import torch

    try:
        return str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        return str(error).partition("\n")[0]


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """`name: theirs -> ours` of every entry that differs; empty when the same bits can be promised."""
    names = sorted(set(ours) | set(theirs))
    return [f"{name}: {theirs.get(name)} -> {ours.get(name)}" for name in names if ours.get(name) != theirs.get(name)]


def _probe(device: str) -> str:
    """Digest of a fixed computation: a forward and backward pass, an optimizer step, NumPy's own loops and its BLAS."""
    import numpy as np
    import torch

    counter = np.arange(256 * 64, dtype=np.float64)
    inputs = np.sin(counter).reshape(256, 64)
    x = torch.tensor(inputs, dtype=torch.float32, device=device)
    first = torch.tensor(np.cos(counter[: 64 * 64]).reshape(64, 64) / 8, dtype=torch.float32, device=device)
    second = torch.tensor(np.cos(counter[:256]).reshape(64, 4), dtype=torch.float32, device=device)
    weights = [w.requires_grad_() for w in (first, second)]
    optimizer = torch.optim.Adam(weights, lr=1e-3)
    loss = -torch.log_softmax(torch.tanh(x @ first) @ second, dim=1).pow(2).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()

    digest = hashlib.blake2b(digest_size=8)
    for weight in weights:
        digest.update(weight.detach().cpu().numpy().tobytes())
    small, powers = inputs.astype(np.float32), np.power(np.abs(inputs) + 0.1, inputs)
    solved = np.linalg.solve(small[:64] + 9 * np.eye(64, dtype=np.float32), small[0])
    loops = (np.exp(inputs), np.log1p(inputs * inputs), powers, np.exp(small), inputs.mean(axis=0))
    for values in (*loops, inputs @ inputs.T, small @ small.T, solved):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
