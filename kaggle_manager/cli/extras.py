"""What to type to get a library that is not installed. Never a guessed name: a module and its package may differ."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

# Libraries by the extra of pyproject.toml that brings them.
EXTRAS = {
    "train": ("torch", "stable-baselines3", "sb3-contrib", "gymnasium", "numpy", "cloudpickle", "tensorboard"),
    "traffic": ("libsumo", "sumolib", "sumo-rl"),
    "report": ("scipy", "matplotlib", "jinja2"),
    "sweep": ("optuna",),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
    "hub": ("huggingface-hub", "imageio", "imageio-ffmpeg"),
}
_EXTRA_OF = {library: extra for extra, libraries in EXTRAS.items() for library in libraries}


def how_to_install(missing: Iterable[str], pins: Iterable[str] = ()) -> str:
    """The command that installs `missing`: extras of this program, and what a section pins beside them.

    Args:
        missing: names of libraries, as pip or as Python writes them.
        pins: requirements of the section, `name==version`.
    """
    names = [name.partition(".")[0].replace("_", "-").lower() for name in missing]
    pinned = {pin.partition("==")[0].partition("[")[0].replace("_", "-").lower(): pin for pin in pins}
    extras = ",".join(dict.fromkeys(_EXTRA_OF[name] for name in names if name in _EXTRA_OF))
    packages = [f"'kaggle-manager[{extras}]'"] if extras else []
    packages += [shlex.quote(pinned[name]) for name in names if name not in _EXTRA_OF and name in pinned]
    return " ".join(["pip install", *packages]) if packages else f"install the package that brings {', '.join(names)}"
