"""What floating-point results depend on and a variable decides, as the environment of a process that computes them.

NumPy, torch and the BLAS libraries read these variables once, when they are loaded. The instruction set is one below
the newest, so that machines with AVX-512 and machines without compute the same bits. Imports nothing of this program:
`trainer/entry.py` runs this very file, by its path.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

THREADS = 1
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# One instruction set below the newest. NumPy's linear algebra is OpenBLAS, whose kernels for AVX-512 round differently
# in float32 products and in solving.
_ISA_VARIABLES = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2,STRICT",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
_CUDA_VARIABLES = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
# No bits depend on this one. NumPy asks for huge pages for each large array; where memory is fragmented, Linux then
# takes up to a second to find them when a replay buffer of 200 MB is restored.
_MEMORY_VARIABLES = {"NUMPY_MADVISE_HUGEPAGE": "0"}
# NumPy's names of everything above AVX2; those before 2.4, and since. With them `exp`, `log`, `power`, `tan` and twenty
# more come out differently, and so do `argsort` and `argpartition` among equal values (measured, 2.0.2 to 2.4.6).
ABOVE_AVX2 = (
    *("AVX512F", "AVX512CD", "AVX512_SKX", "AVX512_CLX", "AVX512_CNL", "AVX512_ICL", "AVX512_SPR"),
    "X86_V4",
)
LEFT_OUT, ALONE = "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"


def pinned(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with these variables. One that the user has set is kept, and the fingerprint of the arithmetic tells;
    what NumPy leaves out is left out beside what the user names.
    """
    wanted = {name: str(THREADS) for name in _THREAD_VARIABLES} | _CUDA_VARIABLES | _MEMORY_VARIABLES
    if _has_avx2():
        wanted |= _ISA_VARIABLES
    numpys = _of_numpy(environ) if platform.machine().lower() in ("x86_64", "amd64") else {}
    return {**wanted, **environ, **numpys}


def without_threads(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without the number of threads that `pinned` has set, for a program that decides that itself."""
    return {name: value for name, value in environ.items() if name not in _THREAD_VARIABLES or value != str(THREADS)}


def _of_numpy(environ: Mapping[str, str]) -> dict[str, str]:
    """NumPy takes the features to leave out, or those alone to use; where both are named it cannot be imported."""
    if alone := _names(environ.get(ALONE, "")):
        # A blank names none, and keeps them all out.
        return {ALONE: ",".join(_without(alone, ABOVE_AVX2)) or " "}
    left_out = _names(environ.get(LEFT_OUT, ""))
    return {LEFT_OUT: ",".join([*left_out, *_without(ABOVE_AVX2, left_out)])}


def _names(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _without(names: Iterable[str], others: Iterable[str]) -> list[str]:
    return [name for name in names if name not in others]


def _has_avx2() -> bool:
    """Whether this is an x86 processor known to have AVX2; naming a missing instruction set would crash torch."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return " avx2 " in flags and " fma " in flags
