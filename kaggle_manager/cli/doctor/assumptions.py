"""What this program takes for granted about Kaggle, looked for on the Kaggle that is there; costs no quota.

Promises: what was not looked at, or could not be, is unknown and never called seen; nothing is changed but one private
dataset of some hundred bytes, which is made, read back and deleted again. One that an earlier call was killed over is
deleted first.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Generic, Literal, TypeVar

from kaggle_manager.cli.doctor.account import gpu_hours
from kaggle_manager.errors import KaggleManagerError, NotFound
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.datasets import download_dataset_files
from kaggle_manager.platforms.kaggle.models import label_of
from kaggle_manager.platforms.platform import Belonging, OutputListing, PublishedInputs, SessionRef, SessionState
from kaggle_manager.runs.leftovers import PREFIX
from kaggle_manager.system.formatting import count
from kaggle_manager.system.scratch import scratch_folder

_T = TypeVar("_T")
Found = Literal["seen", "not seen", "unknown"]
TRIED = f"{PREFIX}doctor-"
# Of the kernels that ran last, so many are asked how they are.
_KERNELS_ASKED = 20
_NO_KERNEL = (
    "none of this account's newest kernels is a finished one of this program: train something with --quick first"
)


@dataclass(frozen=True)
class Assumption:
    """One assumption, whether Kaggle keeps to it, what was seen, and what this program does where it does not."""

    assumption: str
    found: Found
    evidence: str
    if_wrong: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Unknown(Exception):
    """Nothing here can show it."""


class _once(Generic[_T]):
    """A property that is asked for once, also when asking fails."""

    def __init__(self, ask: Callable[[Any], _T]) -> None:
        self._ask = ask

    def __get__(self, look: _Look, kind: type[_Look]) -> _T:
        if self._ask not in look.known:
            try:
                look.known[self._ask] = self._ask(look), None
            except Exception as error:
                look.known[self._ask] = None, error
        value, failed = look.known[self._ask]
        if failed is not None:
            raise failed
        return value  # type: ignore[no-any-return]


class _Look:
    """One account, and what several assumptions are about."""

    def __init__(self, client: KaggleClient) -> None:
        self.client = client
        self.known: dict[Any, tuple[Any, Exception | None]] = {}

    @_once
    def owner(self) -> str:
        return self.client.whoami()

    @_once
    def there(self) -> list[Belonging]:
        return self.client.belongings(self.owner)

    @_once
    def kernels(self) -> list[tuple[SessionRef, SessionState, str]]:
        """The newest version of each of the kernels that ran last, its state, and Kaggle's word for that."""
        slugs = [each.slug for each in self.there if each.kind == "session" and each.slug]
        found = []
        for slug in slugs[:_KERNELS_ASKED]:
            if newest := self.client.newest(self.owner, slug):
                status = self.client.status(newest[0])
                found.append((newest[0], status.state, status.raw))
        if not found:
            raise Unknown("this account has no kernel that ever ran")
        return found

    @_once
    def finished(self) -> SessionRef:
        """The newest version of a kernel of this program; such a session leaves files and a log."""
        over = (version for version, state, _ in self.kernels if state is SessionState.COMPLETE)
        if (version := next((each for each in over if each.slug.startswith(PREFIX)), None)) is None:
            raise Unknown(_NO_KERNEL)
        return version

    @_once
    def outputs(self) -> OutputListing:
        return self.client.outputs(self.finished)

    @_once
    def tried(self) -> _Tried:
        return _try_a_dataset(self.client, self.owner, self.there)


@dataclass(frozen=True)
class _Tried:
    """What became of a private dataset that was made for a moment."""

    version: PublishedInputs
    current: int
    came_back: bool
    is_gone: bool


def _try_a_dataset(client: KaggleClient, owner: str, there: list[Belonging]) -> _Tried:
    for left in there:
        if left.kind == "input" and left.slug.startswith(TRIED):
            client.delete_inputs(owner, left.slug)
    slug = TRIED + secrets.token_hex(6)
    content = secrets.token_hex(100)
    with scratch_folder("km_doctor_") as folder:
        (sent := folder / "sent.pack").write_text(content)
        back = folder / "back"
        back.mkdir()
        try:
            version = client.publish_inputs(
                owner=owner, slug=slug, files=[sent], notes="made to look, and deleted again"
            )
            if not isinstance(version, PublishedInputs):
                raise Unknown(f"Kaggle still processes dataset {owner}/{slug}, which is deleted again")
            current, _ = client.input_versions(owner, slug)
            download_dataset_files(client, owner, slug, [sent.name], back)
            came_back = (back / sent.name).read_text() == content
        finally:
            with contextlib.suppress(NotFound):  # it was never made
                client.delete_inputs(owner, slug)
    try:
        client.input_versions(owner, slug)
    except NotFound:
        return _Tried(version, current, came_back, is_gone=True)
    return _Tried(version, current, came_back, is_gone=False)


# --- each assumption: seen or not, and what was seen -----------------------------------------------------------------

_Answer = tuple[bool, str]


def _names(look: _Look) -> _Answer:
    return bool(look.owner), f"user {look.owner!r}"


def _quota(look: _Look) -> _Answer:
    quota = look.client.quota()
    renewed = quota.refresh_time or "at a moment that is not said"
    return quota.refresh_time is not None, f"{gpu_hours(quota)}, renewed {renewed}"


def _pages(look: _Look) -> _Answer:
    kinds = [each.kind for each in look.there]
    kernels, datasets = kinds.count("session"), kinds.count("input")
    first = look.client.mine(look.owner)
    missing = [slug for slug in first if slug not in {each.slug for each in look.there if each.kind == "session"}]
    says = f"{count(kernels, 'kernel')} and {count(datasets, 'dataset')}"
    return not missing, f"{says}; not among them: {', '.join(missing)}" if missing else says


def _named_kernels(look: _Look) -> _Answer:
    nameless = sum(each.kind == "session" and not each.slug for each in look.there)
    if not any(each.kind == "session" for each in look.there):
        raise Unknown("this account has no kernel")
    return not nameless, f"{nameless} without a name" if nameless else "all have one"


def _nothing(look: _Look) -> _Answer:
    slug = f"{TRIED}{secrets.token_hex(6)}"
    return look.client.newest(look.owner, slug) is None, f"asked for {look.owner}/{slug}"


def _states(look: _Look) -> _Answer:
    words = sorted({word or "(none)" for _, _, word in look.kernels})
    strange = sorted({word for _, state, word in look.kernels if state is SessionState.UNKNOWN})
    says = f"{count(len(look.kernels), 'session')}: {', '.join(words)}"
    return not strange, f"{says}; not known: {', '.join(strange)}" if strange else says


def _live(look: _Look) -> _Answer:
    live = [version.ref for version, state, _ in look.kernels if not state.is_terminal]
    reserved_s = look.client.quota().reserved_s
    says = f"{count(len(live), 'session')} at work{': ' * bool(live)}{', '.join(live)}"
    return bool(live) or not reserved_s, f"{says}; {reserved_s / 3600:.1f} GPU hours are reserved"


def _by_version(look: _Look) -> _Answer:
    newest = look.finished
    beyond = SessionRef(newest.owner, newest.slug, str(int(newest.id) + 1000))
    try:
        status = look.client.status(beyond)
    except NotFound:
        return True, f"{label_of(newest)} of {newest.slug} is answered, {label_of(beyond)} is not"
    return False, f"{label_of(beyond)} of {newest.slug}, which does not exist, is said to be {status.raw or 'queued'}"


def _image(look: _Look) -> _Answer:
    image = look.client.image_of(look.finished)
    return bool(image), image or f"none is named of {look.finished.ref}"


def _outputs(look: _Look) -> _Answer:
    files, log = len(look.outputs.files), len(look.outputs.log)
    return bool(files and log), f"{count(files, 'file')} and a log of {count(log, 'line')} of {look.finished.ref}"


def _output_by_name(look: _Look) -> _Answer:
    if not look.outputs.files:
        raise Unknown(f"{look.finished.ref} has left no file")
    name = look.outputs.files[0].name
    return look.client.output_named(look.finished, name) is not None, f"{name} of {look.finished.ref}"


def _dataset_ready(look: _Look) -> _Answer:
    tried = look.tried
    return tried.current == tried.version.version == 1, f"{tried.version.ref}, current version {tried.current}"


def _dataset_sizes(look: _Look) -> _Answer:
    return not look.tried.version.caution, look.tried.version.caution or "name and size are those that were sent"


def _dataset_back(look: _Look) -> _Answer:
    return look.tried.came_back, "its bytes are the same" if look.tried.came_back else "its bytes are others"


def _dataset_gone(look: _Look) -> _Answer:
    return look.tried.is_gone, "deleted, and not found again" if look.tried.is_gone else "deleted, and still described"


ASSUMPTIONS: tuple[tuple[str, Callable[[_Look], _Answer], str], ...] = (
    ("credentials name their account", _names, "no run begins"),
    ("the quota says what is left, and when it is renewed", _quota, "it is taken to be enough, and asked for again"),
    ("lists of kernels and datasets end, and are whole", _pages, "`clean` finds less; nothing else needs a whole list"),
    ("a kernel in a list has a name", _named_kernels, "it is an empty kernel of a refused push: delete it on Kaggle"),
    ("a kernel that does not exist is said not to", _nothing, "a first push waits until Kaggle answers"),
    ("a session's state is a word that is known", _states, "another word is no end: the session is watched on"),
    ("what reserves quota is seen at work", _live, "a push for which there is no room waits, and costs no attempt"),
    (
        "a question about a version is answered for it alone",
        _by_version,
        "what a session left is checked to be its",
    ),
    ("a version names the image it ran in", _image, "the next session runs in Kaggle's newest image"),
    ("a finished session's files and log are listed", _outputs, "the download is tried again; then it is given up"),
    ("one output is given by its name", _output_by_name, "of more than 500 outputs, those not listed are lost"),
    ("a new private dataset becomes current as version 1", _dataset_ready, "a push waits, and the tree is sent again"),
    ("a dataset lists names and sizes as sent", _dataset_sizes, "it is told, and the session compares hashes"),
    ("a dataset comes back as it was sent", _dataset_back, "a session refuses a tree whose hashes differ"),
    ("a deleted dataset is gone", _dataset_gone, "`clean` lists it again"),
)


def look_for_assumptions(client: KaggleClient) -> Iterator[Assumption]:
    """Each assumption, as it is looked for."""
    look = _Look(client)
    for assumption, ask, if_wrong in ASSUMPTIONS:
        found: Found
        try:
            kept, evidence = ask(look)
            found = "seen" if kept else "not seen"
        except Unknown as error:
            found, evidence = "unknown", str(error)
        except KaggleManagerError as error:
            found, evidence = "unknown", error.message
        except Exception as error:  # of this program, or of what Kaggle says
            found, evidence = "unknown", f"looking for it failed ({type(error).__name__})"
        yield Assumption(assumption, found, " ".join(evidence.split()), if_wrong)
