"""Publish files as a private dataset, and say which version it became once Kaggle would mount exactly these.

Promises: a new dataset is private, an existing public one is refused; the returned version is ready, is the current
one, and lists the names that were sent; sizes that stay others are told as a caution, for nobody says that they are
exact. Never publishes twice what may have been accepted once, however long
Kaggle processes it: the caller writes a submission down before it is ordered, and any later process waits for that one
first. The kernel compares hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kagglesdk.datasets.services.dataset_api_service import DatasetApiClient
from kagglesdk.datasets.types.dataset_api_service import (
    ApiCreateDatasetRequest,
    ApiCreateDatasetVersionRequest,
    ApiCreateDatasetVersionRequestBody,
    ApiDatasetNewFile,
    ApiDownloadDatasetRequest,
    ApiGetDatasetRequest,
    ApiGetDatasetStatusRequest,
    ApiListDatasetFilesRequest,
)

from kaggle_manager.errors import ConfigError, NotFound, ProtocolError, RemoteError, Unavailable
from kaggle_manager.platforms.file_names import check_file_name
from kaggle_manager.platforms.kaggle.auth import quotable
from kaggle_manager.platforms.kaggle.connection import NOT_ACCEPTED, ApiConnection
from kaggle_manager.platforms.kaggle.download import Progress, download_file
from kaggle_manager.platforms.kaggle.names import title_for
from kaggle_manager.platforms.kaggle.resumable_uploads import UploadMemory
from kaggle_manager.platforms.kaggle.transport import JsonAnswer, NotSent
from kaggle_manager.platforms.kaggle.uploads import upload_blob
from kaggle_manager.platforms.platform import NotReady, OutputFile, PublishedInputs, Submission

_SERVICE = "datasets.DatasetApiService"
_SHORTEST_TITLE = 6
_MOST_FILES = 50  # top-level files a dataset may have
_LICENSE = "unknown"
_PAGE = 200
_MOST_PAGES = 50
# How long one call waits until a version is current; Kaggle may take longer, and is then asked again later.
READY_WITHIN_S = 120.0
# How long a version is looked for: one whose answer was lost; a new dataset that Kaggle does not show yet; and one that
# was accepted and never seen again, after which it is published anew.
LOOK_FOR_S, _SHOWN_WITHIN_S, NEVER_READY_S = 90.0, 900.0, 24 * 3600.0
# Sizes that are not the ones sent may be of a version that is not whole yet; after so long they are Kaggle's own.
_SIZES_SETTLE_S = 30.0
# How often to look: a small dataset is current within a second, a large one takes minutes; in parts of what was waited.
_FIRST_LOOK_S, _SLOWEST_LOOK_S, _LATE_AT_MOST = 0.25, 15.0, 0.2
_TRIES = 3
# No version is being processed: the newest is ready or failed, or there is no dataset.
_SETTLED = ("", "READY", "FAILED", "DELETED")


def publish_dataset(
    client: ApiConnection,
    *,
    owner: str,
    slug: str,
    files: Sequence[Path],
    notes: str,
    on_progress: Callable[[str, int, int], None] | None = None,
    on_uploaded: Callable[[], None] | None = None,
    on_order: Callable[[Submission], None] = lambda submission: None,
    on_accepted: Callable[[], None] = lambda: None,
    memory: UploadMemory | None = None,
    ready_within_s: float = READY_WITHIN_S,
    replaces: bool = False,
) -> PublishedInputs | NotReady:
    """Create the dataset or its next version from these files; the version, unless Kaggle still processes it.

    Args:
        files: they become the dataset's flat content, under their own names.
        notes: shown beside the version on Kaggle.
        on_progress: called with (file name, bytes sent, bytes in all).
        on_uploaded: called when every byte has arrived; what follows is Kaggle's work.
        on_order: called before Kaggle is asked for the version, to write down what `find_submitted` needs.
        on_accepted: called when Kaggle has said that it takes it.
        memory: where begun uploads are written down, so that another process can go on with them.
        ready_within_s: how long to wait until the version is current.
        replaces: the versions before it are deleted, which gives their room back.

    Raises:
        ConfigError: these files or this name cannot be published, or the dataset is public or somebody else's work.
        Unavailable: nothing was accepted; or an earlier version is still being processed, and nothing was uploaded.
        AuthError, RemoteError.
    """
    title = title_for(slug, shortest=_SHORTEST_TITLE)
    sizes = _check_files(files)
    dataset = _Dataset(client, owner, slug)
    before = dataset.settled_version(ready_within_s)
    tokens = []
    for path in files:
        tell = None if on_progress is None else _named(on_progress, path.name)
        tokens.append(upload_blob(client, path, tell, memory))
    if memory is not None:
        memory.forget_all()  # before the tokens are used, which can be done once
    if on_uploaded is not None:
        on_uploaded()
    for attempt in range(1, _TRIES + 1):
        # A try whose answer was lost may still arrive; its content is the same, so either number will do.
        submission = Submission(before, before + attempt, sizes)
        on_order(submission)
        is_new = before == 0
        lost = dataset.submit(title, tokens, notes) if is_new else dataset.submit_version(tokens, notes, replaces)
        if lost is None:
            on_accepted()
        within_s = ready_within_s if lost is None else LOOK_FOR_S
        found = dataset.wait_for(submission, within_s, accepted=lost is None, age_s=0.0)
        if found is not NotReady.LOST:
            return found
    raise Unavailable(
        f"Kaggle answered no order to publish dataset {owner}/{slug}, and shows no new version of it.",
        safe="no session was started with it",
        next_step="run the same command again",
    )


def find_submitted(
    client: ApiConnection,
    *,
    owner: str,
    slug: str,
    submission: Submission,
    accepted: bool,
    age_s: float,
    within_s: float = READY_WITHIN_S,
) -> PublishedInputs | NotReady:
    """Wait for a version that was ordered, perhaps by another process; nothing is ordered here.

    Args:
        accepted: Kaggle has said that it takes it.
        age_s: seconds since it was ordered.

    Raises:
        ConfigError: Kaggle could not process it, or somebody else publishes to this dataset.
        AuthError, RemoteError.
    """
    return _Dataset(client, owner, slug).wait_for(submission, within_s, accepted=accepted, age_s=age_s)


class _Dataset:
    """One dataset's name, and the questions and orders about it."""

    def __init__(self, client: ApiConnection, owner: str, slug: str) -> None:
        self._client, self._owner, self._slug = client, owner, slug
        self._api = DatasetApiClient(client.transport)
        self._about = f"dataset {owner}/{slug}"

    def current_version(self) -> int:
        """Number of the version a kernel would mount; 0 when there is no such dataset."""
        answer = self._described()
        if answer is None:
            return 0
        if not answer.get("isPrivate"):
            raise ConfigError(
                f"{self._about} is public; a training tree is published privately only.",
                safe="nothing was uploaded",
                next_step="make it private on Kaggle, or delete it",
            )
        return int(answer.get("currentVersionNumber") or 0)

    def _newest_listed(self) -> int:
        """The highest number Kaggle shows of this dataset, also of a version that is not current yet."""
        answer = self._described() or {}
        listed = [int(version.get("versionNumber") or 0) for version in answer.get("versions") or ()]
        return max(int(answer.get("currentVersionNumber") or 0), *listed, 0)

    def _described(self) -> dict[str, Any] | None:
        """What Kaggle says of the dataset; None when there is none."""
        request = ApiGetDatasetRequest()
        request.owner_slug, request.dataset_slug = self._owner, self._slug
        try:
            return self._client.call(self._get, request, about=self._about)
        except NotFound:
            return None

    def submit(self, title: str, tokens: Sequence[str], notes: str) -> RemoteError | None:
        """Ask for a new dataset; an error means that the answer was lost and it may exist."""
        request = ApiCreateDatasetRequest()
        request.owner_slug, request.slug, request.title = self._owner, self._slug, title
        request.license_name, request.is_private = _LICENSE, True
        request.description, request.files = notes, _new_files(tokens)
        return self._order(self._api.create_dataset, request)

    def submit_version(self, tokens: Sequence[str], notes: str, replaces: bool) -> RemoteError | None:
        """Ask for a new version; an error means that the answer was lost and it may exist."""
        request = ApiCreateDatasetVersionRequest()
        request.owner_slug, request.dataset_slug = self._owner, self._slug
        request.body = ApiCreateDatasetVersionRequestBody()
        request.body.version_notes, request.body.files = notes, _new_files(tokens)
        request.body.delete_old_versions = replaces
        return self._order(self._api.create_dataset_version, request)

    def settled_version(self, within_s: float) -> int:
        """The current version, once no other is being processed: the next one is then known by its number.

        Raises:
            Unavailable: one still is.
        """
        for _ in self._looks(within_s):
            if self._status() in _SETTLED:
                return self.current_version()
        raise Unavailable(
            f"Kaggle is still processing an earlier version of {self._about}.",
            safe="nothing was uploaded; no session was started",
            next_step="run the same command again later",
        )

    def wait_for(
        self, submission: Submission, within_s: float, *, accepted: bool, age_s: float
    ) -> PublishedInputs | NotReady:
        """Wait until a submission is ready, current and complete; NotReady when that takes longer."""
        begun, state, found = self._client.clock(), NotReady.PROCESSED, None
        for _ in self._looks(within_s):
            status = self._status()
            found = self._ready_version(status, submission)
            age = age_s + self._client.clock() - begun
            if found is not None and (not found.caution or age >= _SIZES_SETTLE_S):
                return found
            if found is None:
                state = self._judge(status, submission, accepted=accepted, age_s=age)
                if state is NotReady.LOST:
                    break
        return found or state

    def _judge(self, status: str, submission: Submission, *, accepted: bool, age_s: float) -> NotReady:
        """What a submission is that is not current `age_s` seconds after it was ordered."""
        if status not in _SETTLED:
            return NotReady.PROCESSED  # however long it takes
        patience_s = NEVER_READY_S
        if not status:  # there is no such dataset: not yet, or not any more
            patience_s = _SHOWN_WITHIN_S if accepted else LOOK_FOR_S
        elif not accepted and self._newest_listed() <= submission.after:
            patience_s = LOOK_FOR_S
        return NotReady.LOST if age_s >= patience_s else NotReady.PROCESSED

    def _looks(self, within_s: float) -> Iterator[None]:
        """Again and again, at a growing pace, until so many seconds have passed; once at least."""
        client = self._client
        begun = client.clock()
        while True:
            yield
            waited_s = client.clock() - begun
            pause_s = min(max(waited_s * _LATE_AT_MOST, _FIRST_LOOK_S), _SLOWEST_LOOK_S, within_s - waited_s)
            if pause_s <= 0:
                return
            client.sleep(pause_s)

    def _ready_version(self, status: str, submission: Submission) -> PublishedInputs | None:
        if status in ("FAILED", "DELETED"):
            raise ConfigError(
                f"Kaggle could not process {self._about}: {status}.",
                safe="no session was started with it",
                next_step="look at the dataset's page on Kaggle, then run the same command again",
            )
        if status != "READY":
            return None
        current = self.current_version()
        if current > submission.newest:
            raise ConfigError(
                f"{self._about} is at version {current}, but version {submission.after + 1} was published here: "
                "something else publishes to it.",
                safe="no session was started with it",
                next_step="stop the other program, or give the run another name",
            )
        listed = self._listed(current) if current > submission.after else {}
        if listed.keys() != submission.sizes.keys():
            return None
        others = [
            f"{name} with {listed[name]:,} bytes instead of {sent:,}"
            for name, sent in submission.sizes.items()
            if listed[name] != sent
        ]
        caution = f"Kaggle lists {', '.join(others)}; the session compares the hashes" if others else ""
        return PublishedInputs(self._owner, self._slug, current, caution)

    def _status(self) -> str:
        request = ApiGetDatasetStatusRequest()
        request.owner_slug, request.dataset_slug = self._owner, self._slug
        try:
            answer = self._client.call(self._get_status, request, about=self._about)
        except NotFound:
            return ""  # just created; not to be seen yet
        return str(answer.get("status") or "").upper()

    def _listed(self, version: int) -> dict[str, int]:
        request = ApiListDatasetFilesRequest()
        request.owner_slug, request.dataset_slug = self._owner, self._slug
        request.dataset_version_number, request.page_size = version, _PAGE
        listed: dict[str, int] = {}
        for _ in range(_MOST_PAGES):
            page = self._client.call(self._api.list_dataset_files, request, about=self._about)
            listed.update({file.name or "": file.total_bytes for file in page.dataset_files or ()})
            if not page.next_page_token:
                return listed
            request.page_token = page.next_page_token
        raise ProtocolError(f"The list of files of {self._about} does not end.")

    def _order(self, method: Callable[[Any], Any], request: Any) -> RemoteError | None:
        try:
            answer = self._client.call(method, request, about=self._about, on=NOT_ACCEPTED)
        except NotSent:
            raise
        except (Unavailable, ProtocolError) as error:
            return error
        if answer.error:
            raise ConfigError(
                f"Kaggle refused to publish {self._about}: {quotable(answer.error)}",
                safe="what was uploaded is not published; nothing earlier was changed",
                next_step="follow Kaggle's message above",
            )
        return None

    def _get(self, request: ApiGetDatasetRequest) -> JsonAnswer:
        return self._client.raw(_SERVICE, "GetDataset", request)

    def _get_status(self, request: ApiGetDatasetStatusRequest) -> JsonAnswer:
        return self._client.raw(_SERVICE, "GetDatasetStatus", request)


def _check_files(files: Sequence[Path]) -> dict[str, int]:
    """Name -> size of what is to be published."""
    if not 0 < len(files) <= _MOST_FILES or len({path.name.lower() for path in files}) != len(files):
        raise ConfigError(
            f"A dataset takes 1 to {_MOST_FILES} files of different names, not {len(files)}: "
            f"{', '.join(path.name for path in files[:5])}.",
            safe="nothing was uploaded",
        )
    for path in files:
        check_file_name(path.name)
        if not path.is_file() or path.stat().st_size == 0:
            raise ConfigError(
                f"{path} is not a file with content and cannot be published.", safe="nothing was uploaded"
            )
    return {path.name: path.stat().st_size for path in files}


def _new_files(tokens: Sequence[str]) -> list[ApiDatasetNewFile]:
    files = []
    for token in tokens:
        file = ApiDatasetNewFile()
        file.token = token
        files.append(file)
    return files


def _named(on_progress: Callable[[str, int, int], None], name: str) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(name, done, total)


def download_dataset_files(
    client: ApiConnection,
    owner: str,
    slug: str,
    names: Sequence[str],
    folder: Path,
    *,
    on_progress: Progress | None = None,
) -> None:
    """Download files of the dataset `owner/slug` into `folder`.

    Raises:
        NotFound: no such dataset or file. AuthError, RemoteError, OutputDamaged, StorageError: as any download.
    """
    for name in names:
        check_file_name(name)
        request = ApiDownloadDatasetRequest()
        request.owner_slug, request.dataset_slug, request.file_name = owner, slug, name
        about = f"{name} of dataset {owner}/{slug}"

        def address(request: ApiDownloadDatasetRequest = request, about: str = about) -> str:
            answer = client.call(DatasetApiClient(client.transport).download_dataset, request, about=about)
            return client.transport.file_address(answer.url or "")

        file = OutputFile(name, address())
        download_file(client, file, folder / name, size=None, sha256=None, refresh_url=address, on_progress=on_progress)
