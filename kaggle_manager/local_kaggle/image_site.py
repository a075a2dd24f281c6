"""Which of this machine's distributions a session sees: those of the image's list, and what these require.

The list decides by name; versions are this machine's. `image_packages.txt` is what Kaggle's image has; a file of that
name in the root of a local Kaggle stands in its place. What is listed is linked, once for each content, into a folder
of links; nothing is installed or copied. A session gets a Python environment of its own with nothing in it but a line
that adds this folder: what it installs is its own and comes first, and the links are not its to uninstall. The rest of
this machine is hidden from it, from its child processes and from pip alike.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from configparser import ConfigParser
from pathlib import Path

from packaging.utils import canonicalize_name

from kaggle_manager.local_kaggle.image_packages import LIST, image_packages
from kaggle_manager.local_kaggle.installed import Distribution, installed, with_requirements

_SCRIPT = "#!/usr/bin/env python3\nimport sys\nfrom {module} import {attr}\nsys.exit({call}())\n"


def listed(root: Path | None = None) -> frozenset[str]:
    """Names of the distributions in the image of the local Kaggle in `root`; in Kaggle's, without one."""
    own = root / LIST.name if root else LIST
    return frozenset(map(canonicalize_name, image_packages(own if own.is_file() else LIST)))


def visible(root: Path | None = None) -> frozenset[str]:
    """Names of this machine's distributions that a session sees before it installs anything."""
    return frozenset(with_requirements(installed(), listed(root)))


def view(images: Path, names: Iterable[str]) -> Path:
    """The folder below `images` with links to what an image of these distributions has here; made once.

    Returns:
        a folder with `site`, for a Python's path, and `bin`, with the commands of what is in there.
    """
    here = installed()
    wanted = with_requirements(here, names)
    content = "\n".join([sys.prefix, *(f"{each.site}/{each.info} {each.name in wanted}" for each in here.values())])
    folder = images / hashlib.sha256(content.encode()).hexdigest()[:16]
    if not folder.is_dir():
        images.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=images, prefix=".building-"))
        (building / "site").mkdir()
        (building / "bin").mkdir()
        _link_files(building / "site", "", {name: each.files() for name, each in here.items()}, here, wanted)
        if "pip" not in here:
            _unpack_pip(building / "site")
        if os.name != "nt":
            _make_commands(building / "bin", [each for each in here.values() if each.name in wanted])
        try:
            building.rename(folder)
        except OSError:  # another session has made it meanwhile
            shutil.rmtree(building, ignore_errors=True)
            if not folder.is_dir():
                raise
    return folder


def environment(folder: Path, seen: Path) -> Path:
    """Make a Python environment in `folder` that has what `view` made in `seen`; the path of its Python."""
    venv.EnvBuilder(symlinks=os.name != "nt").create(folder)
    scheme = {"base": str(folder), "platbase": str(folder)}
    line = f"import site; site.addsitedir({str(seen / 'site')!r})\n"
    (Path(sysconfig.get_path("purelib", "venv", scheme)) / "image.pth").write_text(line, encoding="utf-8")
    return Path(sysconfig.get_path("scripts", "venv", scheme)) / ("python.exe" if os.name == "nt" else "python")


def _link_files(
    target: Path, above: str, files: dict[str, list[str]], here: dict[str, Distribution], wanted: set[str]
) -> None:
    """Link what `wanted` distributions have below the folder `above`; what several share becomes a folder of its own.

    Args:
        files: of each distribution, relative to `above`.
    """
    entries: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for owner, paths in files.items():
        for path in paths:
            name, _, rest = path.partition("/")
            entries[name][owner].append(rest)
    for name, owners in entries.items():
        first = next((owner for owner in owners if owner in wanted), None)
        if first is None or not name:
            continue
        source = here[first].site / above / name
        if len(owners) == 1 or not source.is_dir():
            _link(source, target / name)
        else:
            (target / name).mkdir()
            _link_files(target / name, f"{above}{name}/", owners, here, wanted)


def _link(source: Path, link: Path) -> None:
    if not source.exists():
        return  # a record may name what is gone
    if sys.platform != "win32":
        link.symlink_to(source, target_is_directory=source.is_dir())
    elif source.is_dir():  # not everyone may make links there, but everyone may make junctions
        import _winapi

        _winapi.CreateJunction(str(source), str(link))
    else:
        shutil.copyfile(source, link)


def _unpack_pip(folder: Path) -> None:
    """An environment without pip is none that an image has: Python brings one, unless its packager took it out."""
    spec = importlib.util.find_spec("ensurepip")
    bundled = Path(spec.origin).with_name("_bundled").glob("pip-*.whl") if spec and spec.origin else ()
    for wheel in bundled:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)


def _make_commands(folder: Path, distributions: Iterable[Distribution]) -> None:
    """The commands these declare; each runs in the Python that comes first on the session's search path."""
    for each in distributions:
        declared = ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        declared.optionxform = str  # type: ignore[method-assign,assignment]
        declared.read_string(each.text("entry_points.txt"))
        for name, target in declared["console_scripts"].items() if "console_scripts" in declared else ():
            entry = importlib.metadata.EntryPoint(name, target, "console_scripts")
            attr = entry.attr.partition(".")[0]
            command = folder / name
            command.write_text(_SCRIPT.format(module=entry.module, attr=attr, call=entry.attr), encoding="utf-8")
            command.chmod(0o755)
