"""A module run on this machine with what a session would have: the code that travels, and no package it would lack.

    python -m kaggle_manager.trainer.runtime.as_in_session MODULE [ARGUMENT ...]

`kaggle_manager.sessions.try_out` unpacks the code and says in `KM_TRY_OUT` what stays behind. A package that a session
lacks cannot be imported here either, by any module, nor a module from where nothing travels; what is read from the
project's own folder is noticed. What was found missing is put in words by `advice`. Standard library only: nothing is
imported before it can be hidden.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import runpy
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

VARIABLE = "KM_TRY_OUT"
PACKAGE = "kaggle_manager"
INPUTS = "KM_INPUTS"
"""The variable that names the folders of a section's input data, see `kaggle_manager.sections.inputs`."""
MOST_NAMED = 5


@dataclass
class TryOut:
    """What this process may use, and what it has asked for besides.

    Attributes:
        code: the folder that the code was unpacked in.
        project: the folder it came from; the same outside a try-out.
        section: the section's folder, relative to both.
        hidden: module -> pin (`name==version`) of the package of this machine that brings it, for those that a session
            lacks; "" for one that no index has. One of this name that is no package's is not hidden.
        progress: a file that results are appended to; "" for none.
        pinned: folders that pinned packages were installed from here, which a session has from an index.
        memory_bytes: of a session. output_bytes: what is kept of its outputs. None: that is not known, or not bounded.
        refused: hidden modules that were asked for. staying: modules found where nothing travels from, and their files.
        read: files of the project that were opened where they lie. sought: those that the user's code has looked for
            beside itself, and that are not in `code`.
        opened: its files that were opened to be read, there or in `code`, unless this process has written them before.
    """

    code: Path
    project: Path
    section: str = ""
    hidden: dict[str, str] = field(default_factory=dict)
    progress: str = ""
    pinned: list[str] = field(default_factory=list)
    memory_bytes: int | None = None
    output_bytes: int | None = None
    refused: list[str] = field(default_factory=list)
    staying: dict[str, Path] = field(default_factory=dict)
    read: list[Path] = field(default_factory=list)
    opened: list[Path] = field(default_factory=list)
    sought: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._own, self._not_own = self._places()
        self._written: set[Path] = set()

    @classmethod
    def from_environment(cls) -> TryOut:
        """As `KM_TRY_OUT` says; without it everything of this machine may be used."""
        said = json.loads(os.environ.get(VARIABLE) or "{}")
        code = Path(said.get("code") or Path.cwd())
        return cls(
            code,
            Path(said.get("project") or code),
            said.get("section", ""),
            said.get("hidden", {}),
            said.get("progress", ""),
            said.get("pinned", []),
            said.get("memory_bytes"),
            said.get("output_bytes"),
        )

    def begin(self) -> None:
        """From here on nothing of this process gets what a session lacks."""
        if self.hidden or self.section:
            sys.meta_path[:] = [_Hiding(finder, self) for finder in sys.meta_path]
        if self.project != self.code:
            sys.addaudithook(self._notice)
            self._notice_missing()

    def _notice_missing(self) -> None:
        """What code looks for before it does without raises nothing: `exists`, and whatever else asks for a status."""
        stat, supports = os.stat, (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks)

        def noticing(path: Any, *options: Any, **named: Any) -> os.stat_result:
            try:
                return stat(path, *options, **named)
            except FileNotFoundError:
                if isinstance(path, str | os.PathLike) and named.get("dir_fd") is None:
                    self._seek(os.fspath(path))
                raise

        for group in supports:
            group.add(noticing)
        os.stat = noticing

    def _seek(self, place: str | bytes) -> None:
        path = Path(os.path.realpath(os.fsdecode(place)))
        if not path.is_relative_to(self._code) or not self.name_of(path):
            return
        there = self._own / path.relative_to(self._code)
        if not os.path.lexists(there):
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not self._is_users(frame.f_code.co_filename):
            frame = frame.f_back
        if frame is not None:
            self.sought.append(there)

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.listdir", "os.scandir") or not isinstance(arguments[0], str):
            return
        if not os.path.lexists(arguments[0]):
            self._seek(arguments[0])
        if event != "open":
            return
        path = Path(os.path.realpath(arguments[0]))
        if not self.name_of(path):
            return
        if arguments[2] & (os.O_WRONLY | os.O_TRUNC | os.O_CREAT):
            self._written.add(path)
        elif path not in self._written:
            self.opened.append(path)
            if self.is_own(path):
                self.read.append(path)

    def name_of(self, path: Path) -> str:
        """A file of the project, here or where it lies, relative to the project; "" for any other and a hidden one."""
        root = self._code if path.is_relative_to(self._code) else self._own
        if root == self._own and not self.is_own(path):
            return ""
        parts = path.relative_to(root).parts
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        return "" if hidden or parts[:1] == (PACKAGE,) else "/".join(parts)

    def is_own(self, path: Path) -> bool:
        """Whether a file is the project's, and not of Python or its packages, which may lie in the project as well."""
        return path.is_relative_to(self._own) and not any(path.is_relative_to(place) for place in self._not_own)

    def hiding(self, module: str) -> str:
        """The hidden module that this one is or is in; "" for none."""
        parts = module.split(".")
        names = (".".join(parts[:number]) for number in range(1, len(parts) + 1))
        return next((name for name in names if name in self.hidden), "")

    def is_packages(self, place: str) -> bool:
        """Whether a file or folder is where packages of this machine are."""
        path = Path(os.path.realpath(place))
        return any(path.is_relative_to(folder) for folder in self._of_packages)

    @cached_property
    def _of_packages(self) -> list[Path]:
        folders = [
            Path(os.path.realpath(place))
            for place in sys.path
            if place.endswith("-packages")
            or any(Path(place).glob("*.dist-info"))
            or any(Path(place).glob("*.egg-info"))
        ]
        return [folder for folder in folders if not self.is_own(folder) and not folder.is_relative_to(self._code)]

    def _places(self) -> tuple[Path, list[Path]]:
        """The project, and the folders in it that are not of it."""
        own = Path(os.path.realpath(self.project))
        scratch = (tempfile.gettempdir(), str(self.code), str(self.code.parent)) if self.project != self.code else ()
        places = (sys.prefix, sys.base_prefix, *scratch, *(it for it in sys.path if it.endswith("-packages")))
        found = {Path(os.path.realpath(place)) for place in places}
        return own, [place for place in found if place.is_relative_to(own) and place != own]

    # --- in words -----------------------------------------------------------------------------------------------------

    def left_behind(self) -> str:
        """Which files were read, by an absolute path, that a session does not have; "" for none."""
        found = sorted({path.relative_to(self._own).as_posix() for path in self.read if path.is_file()})
        if not found:
            sought = sorted({path.relative_to(self._own).as_posix() for path in self.sought})
            return f"it looks for {_listed(sought)}, which does not travel: {_include(sought)}" if sought else ""
        return (
            f"it reads {_listed(found)} in {self.project}, which does not travel: {_include(found)}, and let the code "
            "find it beside its own files (`Path(__file__).parent`)"
        )

    def imported_elsewhere(self) -> str:
        """A module that was loaded from where nothing travels from, past every finder of modules; "" for none."""
        if self.project == self.code:
            return ""
        modules = {it.__name__: it.__file__ for it in [*sys.modules.values()] if getattr(it, "__file__", None)}
        return next(
            (self._staying(name, path) for name, file in sorted(modules.items()) if (path := self.stays(file))), ""
        )

    def stays(self, file: object) -> Path | None:
        """The real path of a file or folder of neither Python, nor its packages, nor the code; None for any other."""
        if not isinstance(file, str) or not self.section:
            return None
        path = os.path.realpath(file)
        known = (sys.prefix, sys.base_prefix, str(self.code), *self.pinned)
        if f"{path}{os.sep}".startswith(_travelling(known, tuple(sys.path))) or not Path(path).exists():
            return None
        return Path(path)

    def _staying(self, name: str, path: Path) -> str:
        what = f"it imports {name} from {path.parent}, which does not travel"
        if self.is_own(path):
            return f"{what}: {_include([path.relative_to(self._own).as_posix()])}"
        return f"{what}: copy it into the project, and add it to `include` in section.toml"

    def advice(self, error: BaseException) -> str:
        """What to put into section.toml against an error; "" where it is of another kind."""
        for each in chain(error):
            if isinstance(each, ModuleNotFoundError) and each.name and (said := self._missing_module(each.name)):
                return said
            if said := self._missing_file(each) or _missing_input(each):
                return said
        text = " ".join(str(each) for each in chain(error)).lower()
        for module in dict.fromkeys(reversed(self.refused)):  # some libraries keep an ImportError for later
            if re.search(rf"\b{re.escape(module.lower())}\b", text):
                return self._missing_module(module)
        return ""

    def _missing_module(self, name: str) -> str:
        if hidden := self.hiding(name):
            if pin := self.hidden[hidden]:
                return (
                    f"a session has no {hidden}: it is installed here, and neither in its image nor in "
                    f'`packages`; add "{pin}" to `packages` in section.toml'
                )
            return (
                f"a session has no {hidden}: it is installed here from a folder; let its code be in the project, add "
                "it to `include` in section.toml, and let yours find it there"
            )
        if name in self.staying:
            return self._staying(name, self.staying[name])
        parts = name.split(".")
        for number in range(len(parts), 0, -1):
            for file in ("/".join(parts[:number]) + ".py", "/".join(parts[:number])):
                if (self.project / file).exists() and not (self.code / file).exists():
                    return f"{file} of the project does not travel into a session: {_include([file])}"
        return ""

    def _missing_file(self, error: BaseException) -> str:
        named = [str(it) for it in (getattr(error, "filename", None), getattr(error, "filename2", None)) if it]
        named += re.findall(re.escape(str(self.code)) + r"[^\s'\"]+", str(error))
        for text in named:
            path = Path(os.path.normpath(self.code / text))  # relative to the folder a session begins in
            if not path.is_relative_to(self.code) or path.exists():
                continue
            file = path.relative_to(self.code)
            if (self.project / file).exists():
                return f"{file.as_posix()} does not travel into a session: {_include([file.as_posix()])}"
        return ""

    def beside(self) -> str:
        """Files in the section's folder that do not travel, for an error that names none; "" for no such files."""
        folder = self.project / self.section
        if self.project == self.code or not self.section:
            return ""
        found = [
            path.relative_to(self.project).as_posix()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and not any(
                part in ("data", "__pycache__") or part.startswith(".") for part in path.parts[len(folder.parts) :]
            )
        ]
        staying = [name for name in found if not (self.code / name).exists()]
        return (
            f"in the section's folder, and not travelling: {_listed(staying)}; {_include(staying)} if it is needed"
            if staying
            else ""
        )

    def where(self, error: BaseException) -> str:
        """The last line of the user's own code that an error passed; "" for none."""
        last = ""
        for each in reversed(list(chain(error))):  # the cause comes first
            last = last or self._last_frame(each.__traceback__)
        return last

    def _last_frame(self, trace: TracebackType | None) -> str:
        own = [frame for frame in traceback.extract_tb(trace) if self._is_users(frame.filename)]
        if not own:
            return ""
        frame, path = own[-1], Path(os.path.realpath(own[-1].filename))
        name = path.relative_to(self._code).as_posix() if path.is_relative_to(self._code) else str(path)
        return f"{name}, line {frame.lineno}, in {frame.name}"

    @cached_property
    def _code(self) -> Path:
        return Path(os.path.realpath(self.code))

    def _is_users(self, file: str) -> bool:
        if file.startswith("<"):  # of Python itself
            return False
        path = Path(os.path.realpath(file))
        if path.is_relative_to(self._code):
            inside = path.relative_to(self._code).parts
            return inside[0] != PACKAGE and "site-packages" not in inside
        return self.is_own(path)

    def tell(self, result: dict[str, Any]) -> None:
        """Append a result to the file that is watched."""
        if self.progress:
            with Path(self.progress).open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")


@cache
def _travelling(known: tuple[str, ...], path: tuple[str, ...]) -> tuple[str, ...]:
    """How paths begin in these folders, those of Python and those of packages; cached, for each import asks."""
    packages = (place for place in path if place.endswith("-packages") or any(Path(place).glob("*.dist-info")))
    return tuple(f"{os.path.realpath(place)}{os.sep}" for place in (*known, *sysconfig.get_paths().values(), *packages))


class _Hiding:
    """A finder of modules that does not find some: that way it is the same for code that looks before importing."""

    def __init__(self, finder: Any, try_out: TryOut) -> None:
        self._finder, self._try_out = finder, try_out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        spec = self._finder.find_spec(name, path, target)
        if spec is not None and (stays := self._staying(spec)):
            # As in a session, where code that can do without it does; another of that name may come after it.
            self._try_out.staying[name] = stays
            there = [place for place in (sys.path if path is None else path) if not self._try_out.stays(place)]
            spec = self._finder.find_spec(name, there, target)
            if spec is not None and self._staying(spec):  # it is found by another way than the path
                return None
        if spec is None or not (hidden := self._try_out.hiding(name)) or not self._is_packages(spec):
            return spec
        # The user's own module of that name may come after it on the path.
        own = [place for place in (sys.path if path is None else path) if not self._try_out.is_packages(place)]
        spec = self._finder.find_spec(name, own, target)
        if spec is None or self._is_packages(spec):
            self._try_out.refused.append(hidden)
            return None
        return spec

    def _staying(self, spec: Any) -> Path | None:
        """Where it lies when that is where nothing travels from: its file, or each of its folders."""
        if spec.origin and spec.has_location:
            return self._try_out.stays(spec.origin)
        found = [self._try_out.stays(place) for place in spec.submodule_search_locations or ()]
        return found[0] if found and all(found) else None

    def _is_packages(self, spec: Any) -> bool:
        places = [spec.origin, *(spec.submodule_search_locations or ())]
        return any(self._try_out.is_packages(place) for place in places if place)


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those behind it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _missing_input(error: BaseException) -> str:
    """What to write where the user's code asks for data that no section has named."""
    asked = error.args[0] if isinstance(error, KeyError) and error.args else None
    near = any(INPUTS in str(frame.line) for frame in traceback.extract_tb(error.__traceback__)[-2:])
    if not os.environ.get(INPUTS) and (asked == INPUTS or near):
        return f'{INPUTS} is not set: name the data by `inputs` in section.toml, such as inputs = ["owner/dataset"]'
    if isinstance(asked, str) and near:
        return f"{INPUTS} has no {asked}: add {json.dumps(asked)} to `inputs` in section.toml"
    return ""


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _include(names: Sequence[str]) -> str:
    """What to do about files that do not travel."""
    return f"add {_listed([json.dumps(name) for name in names])} to `include` in section.toml"


try_out = TryOut.from_environment()
"""This process's own."""


def main(arguments: Sequence[str]) -> None:
    """Run a module as `python -m` does, with the rest as its arguments; what it cannot import is said in a line."""
    try_out.begin()
    sys.argv = [*arguments]
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except ImportError as error:
        if advice := try_out.advice(error):
            sys.exit(f"{type(error).__name__}: {error}; {advice}")
        raise


if __name__ == "__main__":
    # As it is imported by others, so that they see what this one has noticed.
    importlib.import_module("kaggle_manager.trainer.runtime.as_in_session").main(sys.argv[1:])
