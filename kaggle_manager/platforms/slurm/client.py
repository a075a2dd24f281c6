"""Slurm as a `platforms.platform.Platform`: a session is a job with a folder on the cluster's disk.

Promises: a session is one job at most, whatever is killed when: its folder is made before it is submitted, the job's
comment names the folder, and of all jobs that come for it the first one works and the others leave at once. What the
session wrote about its own end counts more than what Slurm remembers. A controller that does not answer is no end.

    FOLDER/runs/NAME/3/    script.py job.sh | job_id (who submitted it) | claimed/ started ended log output/ (its job)
    FOLDER/inputs/NAME/2/  the files of one published version
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from kaggle_manager.errors import (
    ConfigError,
    NotFound,
    OutputDamaged,
    Unavailable,
    UnsafePath,
    one_line,
)
from kaggle_manager.platforms.file_names import check_file_name
from kaggle_manager.platforms.local_files import path_inside, take_what_is_here
from kaggle_manager.platforms.platform import (
    LONGEST_LINE,
    Belonging,
    ExpectedFile,
    Limits,
    LogLine,
    NotReady,
    OutputFile,
    OutputListing,
    Platform,
    Progress,
    PublishedInputs,
    SessionRef,
    SessionRequest,
    SessionState,
    SessionStatus,
    StartedSession,
    Submission,
)
from kaggle_manager.platforms.slurm import remote
from kaggle_manager.platforms.slurm.job_script import (
    OLDEST_PYTHON,
    ask_for_python,
    comment_of,
    in_words,
    job_script,
    read_python,
    sbatch,
)
from kaggle_manager.platforms.slurm.job_state import (
    KILLED,
    SACCT_OPTIONS,
    Job,
    end_of,
    read_sacct,
    read_scontrol,
    status_of,
)
from kaggle_manager.platforms.slurm.jobs import ask, end_all, end_forsaken, jobs_of
from kaggle_manager.platforms.slurm.links import folder_of, links_of
from kaggle_manager.platforms.slurm.refusals import in_doubt, is_doubtful, refusal
from kaggle_manager.platforms.slurm.settings import read_settings, root_of
from kaggle_manager.platforms.slurm.shell import Shell, TimedOut
from kaggle_manager.system.files import sha256_of

# A source this large is a mistake; nothing else bounds it.
_SOURCE_BYTES = 64_000_000
# A folder without a job that is younger may be about to be submitted by another process.
SUBMITTED_WITHIN_S = 60.0
# How often a log is looked at, here and through ssh; and how often Slurm is asked whether it can grow any more.
_LOOK_S, _LOOK_FAR_S, _ASK_S = 1.0, 5.0, 30.0
# How many versions of published files are kept: the newest, and one that a session may still read.
_KEPT_INPUTS = 2
# How Slurm says that it does not know a job, and that it keeps no accounts.
_NO_SUCH_JOB, _NO_ACCOUNTING = "Invalid job id", "accounting storage is disabled"


class SlurmPlatform(Platform):
    """A cluster, by the settings of a section.

    Args:
        options: what `[platform.slurm]` says.
        state: this machine's state folder; sessions lie in it where no folder is named and none is far.
        environ: where `KM_SLURM_*` are read.
    """

    def __init__(self, options: Mapping[str, Any], state: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.settings = read_settings(options, environ)
        self.shell = Shell(self.settings.login, self.settings.ssh_options)
        self._folder = root_of(self.settings, state)
        self._has_accounting = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shell.where}, {self._folder!r})"

    # --- the account --------------------------------------------------------------------------------------------------

    @cached_property
    def _root_and_user(self) -> tuple[str, str]:
        done = self.shell.script(remote.OPEN, self._folder)
        lines = done.out.splitlines()
        if done.code == remote.NO_SLURM:
            raise ConfigError(
                f"There is no command sbatch on {self.shell.where}.",
                safe="nothing was started",
                next_step="run this on a login host of the cluster, or name one: login in [platform.slurm]",
            )
        if not done.code and len(lines) > 2:
            raise ConfigError(
                f"{self.shell.where} prints words of its own before those of a command: {one_line(lines[0])}",
                safe="nothing was started",
                next_step=f"make `ssh {self.shell.where} true` print nothing: let ~/.bashrc there greet no command",
            )
        if done.code or len(lines) != 2:
            raise self.shell.refused(self._folder, done)
        return lines[0], lines[1]

    @property
    def _root(self) -> str:
        return self._root_and_user[0]

    def whoami(self) -> str:
        return self._root_and_user[1]

    def limits(self) -> Limits:
        return Limits(self.settings.longest_session_s, {}, _SOURCE_BYTES, memory_bytes=self.settings.memory_bytes)

    def has_this_python(self) -> bool:
        return not self.settings.login and not self.settings.setup and self.settings.python in (None, sys.executable)

    def check_python(self) -> None:
        """Ask the Python of the host with Slurm's commands, after the lines of setup; what it does not say a job says.

        Raises:
            ConfigError: it is too old. AuthError, RemoteError.
        """
        done = self.shell.run("bash", "-l", "-c", ask_for_python(self.settings, self._default_python))
        found = read_python(done.out)
        if found is not None and found < OLDEST_PYTHON:
            raise ConfigError(
                f"{self.settings.python or self._default_python} on {self.shell.where} is Python {in_words(found)}: "
                f"sessions need {in_words(OLDEST_PYTHON)} or newer.",
                safe="nothing was started",
                next_step="name another: python in [platform.slurm] of section.toml, or load one in its setup",
            )

    @property
    def _default_python(self) -> str:
        return "python3" if self.settings.login else sys.executable

    def page(self, owner: str, slug: str) -> str:
        return f"{self._root}/runs/{slug} on {self.shell.where}"

    def _of(self, version: SessionRef) -> str:
        return f"{self._root}/runs/{version.slug}/{version.id}"

    # --- sessions -----------------------------------------------------------------------------------------------------

    def start(self, push: SessionRequest) -> StartedSession:
        if not self.has_this_python():
            self.check_python()
        links = links_of(push, self.settings.inputs)
        end_forsaken(self.shell, push.slug, f"{self._root}/runs/{push.slug}")
        script = job_script(self.settings, self._default_python)
        done = self.shell.script(remote.PREPARE, self._root, push.slug, script, *links, stdin=push.source)
        if done.code == remote.NO_INPUT:
            raise Unavailable(f"Slurm has no inputs {done.error.strip()}.", safe="no session was started")
        if done.code or not (number := done.out.strip()).isdigit():
            raise self.shell.refused(f"{self._root}/runs/{push.slug}", done)
        ref = SessionRef(push.owner, push.slug, number)
        command = sbatch(
            self.settings,
            folder=self._of(ref),
            slug=push.slug,
            number=number,
            timeout_s=push.session_timeout_s,
            needs_gpu=push.accelerator is not None,
        )
        try:
            submitted = self.shell.script(remote.SUBMIT, self._of(ref), *command)
        except (TimedOut, Unavailable) as error:
            raise in_doubt(ref, error.message) from None
        if submitted.code:
            said = submitted.error.strip() or submitted.out
            raise in_doubt(ref, said) if is_doubtful(said) or not self._withdraw(ref) else refusal(ref, said)
        if not (job := submitted.out.strip()):
            raise in_doubt(ref, "sbatch named no job")
        return StartedSession(ref, f"job {job} on {self.shell.where}")

    def _withdraw(self, ref: SessionRef) -> bool:
        """Make sure that no job will work in this session; False when one does."""
        return self.shell.script(remote.WITHDRAW, self._of(ref)).code == 0

    def newest(self, owner: str, slug: str) -> tuple[SessionRef, str] | None:
        listed = self.shell.script(remote.SESSIONS, f"{self._root}/runs/{slug}")
        for line in listed.out.splitlines():
            number, job, age_s = line.split("|")
            ref = SessionRef(owner, slug, number)
            if not job and not self._find_again(ref, float(age_s)):
                continue
            source = self.shell.run("cat", "--", f"{self._of(ref)}/script.py")
            return ref, source.out
        return None

    def _find_again(self, ref: SessionRef, age_s: float) -> bool:
        """Whether a job was submitted for a session whose folder names none; if not, none ever works there.

        Raises:
            Unavailable: it is being submitted, or Slurm does not say.
        """
        for job, comment in jobs_of(self.shell, ref.slug):
            if comment == comment_of(ref.slug, ref.id):
                self.shell.write(f"{self._of(ref)}/job_id", f"{job}\n")
                return True
        if age_s < SUBMITTED_WITHIN_S:
            raise Unavailable(f"A job for {ref.ref} may be about to be submitted.", safe="nothing was started")
        return not self._withdraw(ref)

    def mine(self, owner: str) -> list[str]:
        return self.shell.run("ls", "-t", "--", f"{self._root}/runs").out.splitlines()

    def is_later(self, of_platform: str, than: str) -> bool:
        return int(of_platform) > int(than)

    def status(self, version: SessionRef) -> SessionStatus:
        known = self.shell.script(remote.LOOK, self._of(version))
        if known.code:
            raise NotFound(f"There is no session {version.ref} on {self.shell.where}.", next_step="check its name")
        job, ran, ended = known.out.split("|", 2)
        ran_s = float(max(0, int(ran)))
        if ended and (end := end_of(ended)):
            return self._with_its_cause(replace(end, ran_s=ran_s), job.strip())
        if not job.strip():
            raise NotFound(f"No job of {version.ref} is known.", next_step="nothing: it is looked for again")
        found = self._job(job.strip())
        if found is None:
            why = f"job {job.strip()} left no word of its end, and Slurm has forgotten it"
            return SessionStatus(SessionState.ERROR, why, "FORGOTTEN", ran_s=ran_s)
        return status_of(found)

    def _with_its_cause(self, end: SessionStatus, job: str) -> SessionStatus:
        """What ended by a signal, as Slurm knows it, where it does: it sends them, and gives the reason later."""
        if end.raw == KILLED and job:
            with suppress(Unavailable):
                found = self._job(job)
                if found is not None and (known := status_of(found)).state is not SessionState.UNKNOWN:
                    return known
        return end

    def _job(self, number: str) -> Job | None:
        """A job as the controller shows it, or the accounting; None when both have forgotten it.

        Raises:
            Unavailable: Slurm does not say.
        """
        done = self.shell.ask_slurm("scontrol", "--oneliner", "show", "job", number)
        if found := read_scontrol(done.out):
            return found
        if _NO_SUCH_JOB not in done.error + done.out:
            raise Unavailable(f"Slurm does not say how job {number} is: {one_line(done.error.strip()) or 'no answer'}")
        if self._has_accounting:
            done = self.shell.ask_slurm("sacct", *SACCT_OPTIONS, "--jobs", number)
            self._has_accounting = _NO_ACCOUNTING not in done.error
            if done.code and self._has_accounting:
                raise Unavailable(f"Slurm's accounting does not say how job {number} ended: {one_line(done.error)}")
            return read_sacct(done.out)
        return None

    def cancel(self, version: SessionRef, told: str) -> bool:
        status = self.status(version)
        if status.state.is_terminal:
            raise NotFound(f"{version.ref} has ended.", next_step="nothing")
        job = self.shell.script(remote.LOOK, self._of(version)).out.partition("|")[0].strip()
        ask(self.shell, "scancel", "--full", job)
        return True

    def delete(self, owner: str, slug: str) -> None:
        folder = f"{self._root}/runs/{slug}"
        if self.shell.run("test", "-d", folder).code:
            raise NotFound(f"There are no sessions {owner}/{slug} on {self.shell.where}.", next_step="check the name")
        end_all(self.shell, slug)
        if (done := self.shell.run("rm", "-rf", "--", folder)).code:
            raise self.shell.refused(folder, done)

    # --- what a session prints and leaves -----------------------------------------------------------------------------

    def follow_log(self, version: SessionRef, *, stop: Callable[[], bool]) -> Iterator[LogLine]:
        offset, index, rest, asked_at = 0, 0, b"", time.monotonic()
        while not stop():
            done = self.shell.script(remote.LOG_FROM, self._of(version), str(offset + 1))
            if done.code:
                raise NotFound(f"There is no session {version.ref} on {self.shell.where}.", next_step="check its name")
            text, _, mark = done.out.rpartition("\n")
            came = text.encode("utf-8", "surrogateescape")
            offset += len(came)
            *lines, rest = (rest + came).split(b"\n")
            is_over = mark == "ended" and not came
            if not came and not is_over and time.monotonic() - asked_at > _ASK_S:
                asked_at, is_over = time.monotonic(), self.status(version).state.is_terminal
            for line in [*lines, rest] if is_over and rest else lines:
                yield _log_line(index, line)
                index += 1
            if is_over:
                return
            if not came:
                time.sleep(_LOOK_FAR_S if self.settings.login else _LOOK_S)

    def outputs(self, version: SessionRef) -> OutputListing:
        listed = self.shell.script(remote.OUTPUTS, self._of(version))
        if listed.code:
            raise NotFound(f"There is no session {version.ref} on {self.shell.where}.", next_step="check its name")
        files, not_plain = [], []
        for name in filter(None, listed.out.split("\0")):
            try:
                check_file_name(name)
            except UnsafePath:
                not_plain.append(one_line(name))
            else:
                files.append(OutputFile(name, f"{self._of(version)}/output/{name}"))
        log = self.shell.script(remote.WHOLE_LOG, self._of(version)).out.encode("utf-8", "surrogateescape")
        lines = log.removesuffix(b"\n").split(b"\n") if log else []
        return OutputListing(
            tuple(files), tuple(_log_line(index, line) for index, line in enumerate(lines)), tuple(not_plain)
        )

    def download(
        self,
        version: SessionRef,
        names: Sequence[ExpectedFile],
        folder: Path,
        *,
        listing: OutputListing | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        there = {file.name: file for file in (listing or self.outputs(version)).files}
        for expected in take_what_is_here(names, folder).missing:
            if expected.name not in there:
                raise _damaged(expected.name, "is not among the outputs")
            place = path_inside(folder.absolute(), expected.name)
            if on_progress is not None:
                on_progress(expected.name, 0, expected.size)
            self.download_file(there[expected.name], place, size=expected.size, sha256=expected.sha256)
            if on_progress is not None:
                size = place.stat().st_size
                on_progress(expected.name, size, size)

    def download_file(self, file: OutputFile, destination: Path, *, size: int | None, sha256: str | None) -> None:
        try:
            self.shell.download(file.url, destination)
        except NotFound:
            raise _damaged(file.name, "is gone") from None
        if (size is not None and destination.stat().st_size != size) or (
            sha256 is not None and sha256_of(destination) != sha256.lower()
        ):
            destination.unlink()
            raise _damaged(file.name, "has other bytes than the session said")

    # --- what a session is given --------------------------------------------------------------------------------------

    def publish_inputs(
        self,
        *,
        owner: str,
        slug: str,
        files: Sequence[Path],
        notes: str,
        on_progress: Callable[[str, int, int], None] | None = None,
        on_uploaded: Callable[[], None] | None = None,
        on_order: Callable[[Submission], None] = lambda submission: None,
        on_accepted: Callable[[], None] = lambda: None,
        uploads: Path | None = None,
        replaces: bool = False,
    ) -> PublishedInputs | NotReady:
        """Copied beside its place, which it then takes in one step: it is there when this returns."""
        folder = f"{self._root}/inputs/{slug}"
        # Of the same content the same folder: an upload that broke off is continued by the next command.
        content = hashlib.sha256("".join(sorted(f"{sha256_of(file)} {file.name}\n" for file in files)).encode())
        begun = f"{folder}/.{content.hexdigest()[:16]}"
        made = self.shell.run("mkdir", "-p", "--", begun)
        if made.code:
            raise self.shell.refused(begun, made)
        for file in files:
            if on_progress is not None:
                on_progress(file.name, 0, file.stat().st_size)
            self.shell.send([file], begun)
            if on_progress is not None:
                on_progress(file.name, file.stat().st_size, file.stat().st_size)
        done = self.shell.script(remote.PUBLISH, folder, begun, str(1 if replaces else _KEPT_INPUTS))
        if done.code or not done.out.strip().isdigit():
            raise self.shell.refused(folder, done)
        return PublishedInputs(owner, slug, int(done.out))

    def find_published(
        self, *, owner: str, slug: str, submission: Submission, accepted: bool, age_s: float
    ) -> PublishedInputs | NotReady:
        done = self.shell.script(remote.NEWEST_INPUTS, f"{self._root}/inputs/{slug}")
        number, _, listed = done.out.partition("\n")
        sizes = {name: int(size) for size, _, name in (line.partition(" ") for line in listed.splitlines()) if name}
        if done.code or not number.isdigit() or int(number) <= submission.after or sizes != dict(submission.sizes):
            return NotReady.LOST
        return PublishedInputs(owner, slug, int(number))

    def download_inputs(self, owner: str, slug: str, names: Sequence[str], folder: Path) -> None:
        newest, _ = self.input_versions(owner, slug)
        for name in names:
            check_file_name(name)
            self.shell.download(f"{self._root}/inputs/{slug}/{newest}/{name}", folder / name)

    def input_versions(self, owner: str, slug: str) -> tuple[int, frozenset[int]]:
        if f"{owner}/{slug}" in self.settings.inputs:  # which version lies there, nobody but the section says
            self._look_at_folder(f"{owner}/{slug}")
            return 1, frozenset()
        done = self.shell.run("ls", "--", f"{self._root}/inputs/{slug}")
        versions = frozenset(int(name) for name in done.out.split() if name.isdigit())
        if done.code or not versions:
            raise NotFound(f"There are no inputs {owner}/{slug} on {self.shell.where}.", next_step="check the name")
        return max(versions), versions

    def _look_at_folder(self, name: str) -> None:
        """That an input lies on the cluster where the settings say.

        Raises:
            ConfigError: they say nothing of it. NotFound: there is no such folder.
        """
        folder = folder_of(name, self.settings.inputs)
        if self.shell.script(remote.IS_FOLDER, folder).code:
            raise NotFound(f"{folder} is no folder on {self.shell.where}", next_step="correct it in section.toml")

    def check_competition(self, name: str) -> None:
        self._look_at_folder(f"competition:{name}")

    def newest_model_version(self, owner: str, model: str, framework: str, variation: str) -> int:
        self._look_at_folder(f"model:{owner}/{model}/{framework}/{variation}")
        return 1

    # --- what lies there ----------------------------------------------------------------------------------------------

    def belongings(self, owner: str) -> list[Belonging]:
        found = []
        for line in self.shell.script(remote.BELONGINGS, self._root).out.splitlines():
            kind, changed_at, size, slug = line.split(" ", 3)
            found.append(Belonging("session" if kind == "runs" else "input", slug, float(changed_at), int(size) * 1024))
        return sorted(found, key=lambda each: -(each.changed_at or 0.0))

    def delete_inputs(self, owner: str, slug: str) -> None:
        self.input_versions(owner, slug)
        folder = f"{self._root}/inputs/{slug}"
        if (done := self.shell.run("rm", "-rf", "--", folder)).code:
            raise self.shell.refused(folder, done)


def _log_line(index: int, line: bytes) -> LogLine:
    return LogLine(index, "stdout", 0.0, one_line(line.decode("utf-8", "replace").rstrip("\r"), LONGEST_LINE))


def _damaged(name: str, why: str) -> OutputDamaged:
    return OutputDamaged(
        f"{name} {why}.",
        safe="nothing of an earlier download was replaced",
        next_step="run the same command again; a shared disk may show a file late",
    )
