"""A platform of one's own, whole: sessions are processes of this machine, each in a folder.

    km run SECTION --platform own_platform:ThisMachine

What each method promises is said in `kaggle_manager.platforms.platform`; what a platform need not have is left out.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kaggle_manager.errors import NotFound, OutputDamaged, one_line
from kaggle_manager.platforms import platform as km
from kaggle_manager.platforms.local_files import path_inside
from kaggle_manager.system.files import sha256_of

# Returns at once. What goes on in the background outlives who started it, and writes down how the session ended.
RUN = "echo $$ > group; (trap : TERM; {python} -u script.py > log 2>&1; echo $? > ended.tmp; mv ended.tmp ended) &"


class ThisMachine(km.Platform):
    """Made with what `[platform."own_platform:ThisMachine"]` of section.toml says, and the state folder."""

    def __init__(self, options: Mapping[str, Any], state: Path) -> None:
        self.root = Path(options.get("folder", state / "this_machine")).absolute()

    def whoami(self) -> str:
        return "me"

    def limits(self) -> km.Limits:
        return km.Limits(longest_session_s=12 * 3600.0, room={"CPU": os.cpu_count() or 1}, source_bytes=50_000_000)

    def start(self, push: km.SessionRequest) -> km.StartedSession:
        taken = self._numbers("runs", push.slug)
        folder = self.root / "runs" / push.slug / str(max(taken, default=0) + 1)
        for name in ("output", "input"):
            (folder / name).mkdir(parents=True)
        for source in push.inputs:
            slug = source.split("/")[1]
            (folder / "input" / slug).symlink_to(self._newest_inputs(slug), target_is_directory=True)
        (folder / "script.py").write_text(push.source)
        told = {"KM_WORKING_DIR": folder / "output", "KM_INPUT_DIR": folder / "input", "KM_MACHINE_NAME": folder.name}
        script = ["sh", "-c", RUN.format(python=sys.executable)]
        subprocess.run(script, cwd=folder, env={**os.environ, **told}, start_new_session=True, check=True)
        return km.StartedSession(km.SessionRef(push.owner, push.slug, folder.name), str(folder))

    def status(self, version: km.SessionRef) -> km.SessionStatus:
        folder, states = self._folder(version), km.SessionState
        if not (folder / "ended").exists() and not self._signal(folder, 0):
            return km.SessionStatus(states.ERROR, "it was killed", "gone")
        if not (folder / "ended").exists():
            return km.SessionStatus(states.RUNNING, "", "running")
        code = (folder / "ended").read_text().strip()
        return km.SessionStatus(states.COMPLETE if code == "0" else states.ERROR, f"exit code {code}", code)

    def newest(self, owner: str, slug: str) -> tuple[km.SessionRef, str] | None:
        if not (started := self._numbers("runs", slug)):
            return None
        ref = km.SessionRef(owner, slug, str(max(started)))
        return ref, (self._folder(ref) / "script.py").read_text()

    def is_later(self, of_platform: str, than: str) -> bool:
        return int(of_platform) > int(than)

    def cancel(self, version: km.SessionRef, told: str) -> bool:
        return self._signal(self._folder(version), signal.SIGTERM)

    def delete(self, owner: str, slug: str) -> None:
        for number in self._numbers("runs", slug):
            self._signal(self.root / "runs" / slug / str(number), signal.SIGKILL)
        shutil.rmtree(self.root / "runs" / slug)

    def follow_log(self, version: km.SessionRef, *, stop: Callable[[], bool]) -> Iterator[km.LogLine]:
        given, is_over = 0, False
        while not (is_over or stop()):
            is_over = self.status(version).state.is_terminal
            lines = self._log(version)[: None if is_over else -1]  # of one that runs, the last may not be whole
            yield from lines[given:]
            given = len(lines)
            time.sleep(0.2)

    def outputs(self, version: km.SessionRef) -> km.OutputListing:
        folder = self._folder(version) / "output"
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        listed = [km.OutputFile(path.relative_to(folder).as_posix(), str(path)) for path in files]
        return km.OutputListing(tuple(listed), tuple(self._log(version)))

    def download(self, version: km.SessionRef, names: Sequence[km.ExpectedFile], folder: Path, **_: Any) -> None:
        for file in names:
            source = km.OutputFile(file.name, str(self._folder(version) / "output" / file.name))
            self.download_file(source, path_inside(folder, file.name), size=file.size, sha256=file.sha256)

    def download_file(self, file: km.OutputFile, destination: Path, *, size: int | None, sha256: str | None) -> None:
        if not Path(file.url).is_file() or (sha256 is not None and sha256_of(Path(file.url)) != sha256):
            raise OutputDamaged(f"{file.name} is not what was expected.", next_step="run it again")
        destination.parent.mkdir(parents=True, exist_ok=True)
        part = shutil.copyfile(file.url, destination.with_name(f"{destination.name}.part"))
        part.replace(destination)

    def publish_inputs(self, *, owner: str, slug: str, files: Sequence[Path], **_: Any) -> km.PublishedInputs:
        number = max(self._numbers("inputs", slug), default=0) + 1
        begun = self.root / "inputs" / slug / "begun"
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
        for file in files:
            shutil.copy(file, begun)
        begun.rename(begun.with_name(str(number)))  # in one step: it is seen whole
        return km.PublishedInputs(owner, slug, number)

    def download_inputs(self, owner: str, slug: str, names: Sequence[str], folder: Path) -> None:
        for name in names:
            shutil.copy(self._newest_inputs(slug) / name, folder / name)

    def input_versions(self, owner: str, slug: str) -> tuple[int, frozenset[int]]:
        if not (versions := self._numbers("inputs", slug)):
            raise NotFound(f"Nothing was published as {slug}.", next_step="check the name")
        return max(versions), frozenset(versions)

    def _newest_inputs(self, slug: str) -> Path:
        return self.root / "inputs" / slug / str(self.input_versions("", slug)[0])

    def _folder(self, version: km.SessionRef) -> Path:
        folder = self.root / "runs" / version.slug / version.id
        if not folder.is_dir():
            raise NotFound(f"There is no session {version.ref}.", next_step="check its name")
        return folder

    def _numbers(self, kind: str, slug: str) -> list[int]:
        return [int(each.name) for each in (self.root / kind / slug).glob("*") if each.name.isdigit()]

    def _log(self, version: km.SessionRef) -> list[km.LogLine]:
        log = self._folder(version) / "log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return [km.LogLine(index, "stdout", 0.0, one_line(line, km.LONGEST_LINE)) for index, line in enumerate(lines)]

    @staticmethod
    def _signal(folder: Path, number: int) -> bool:
        try:
            os.killpg(int((folder / "group").read_text()), number)
        except ProcessLookupError:
            return False
        return True
