"""The Kaggle adapter: typed answers and typed errors over the official SDK.

Promises: every call has time-outs; what is safe to repeat is repeated with full jitter; every question about a session
names its version; a refusal is told apart from a wrong name by asking who we are. Never repeats a push that may have
been accepted, and never reads an unknown status as an end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kagglesdk.kernels.services.kernels_api_service import KernelsApiClient
from kagglesdk.kernels.types.kernels_api_service import (
    ApiCancelKernelSessionRequest,
    ApiDeleteKernelRequest,
    ApiGetAcceleratorQuotaStatisticsRequest,
    ApiGetKernelRequest,
    ApiGetKernelSessionStatusRequest,
    ApiListKernelsRequest,
    ApiSaveKernelRequest,
)
from kagglesdk.kernels.types.kernels_enums import KernelsListSortType, KernelsListViewType

from kaggle_manager.errors import NotFound, NoVersionShown, ProtocolError, Unavailable
from kaggle_manager.platforms.kaggle import datasets, environment, inputs
from kaggle_manager.platforms.kaggle.auth import quotable
from kaggle_manager.platforms.kaggle.belongings import belongings, delete_dataset, moment_of
from kaggle_manager.platforms.kaggle.connection import NOT_ACCEPTED, ApiConnection
from kaggle_manager.platforms.kaggle.download import download_file
from kaggle_manager.platforms.kaggle.log_stream import follow_log
from kaggle_manager.platforms.kaggle.models import (
    LONGEST_SESSION_S,
    MEMORY_BYTES,
    OUTPUT_BYTES,
    OUTPUT_FILES,
    ROOM,
    about,
    pin,
    state_of,
)
from kaggle_manager.platforms.kaggle.names import title_for
from kaggle_manager.platforms.kaggle.outputs import download_outputs, list_outputs, output_named
from kaggle_manager.platforms.kaggle.push_reply import ambiguous, read_push_reply, refusal
from kaggle_manager.platforms.kaggle.resumable_uploads import UploadMemory
from kaggle_manager.platforms.kaggle.transport import JsonAnswer, NotSent, Refused, ServerFailed
from kaggle_manager.platforms.platform import (
    SOURCE_LIMIT_BYTES,
    Limits,
    NotReady,
    Platform,
    PublishedInputs,
    Quota,
    SessionRef,
    SessionRequest,
    SessionState,
    SessionStatus,
    StartedSession,
    Submission,
)
from kaggle_manager.system.accelerators import runs_on

_KERNELS = "kernels.KernelsApiService"
_OWN_KERNELS = 20
_SHORTEST_TITLE = 5
_LIVE = (SessionState.QUEUED, SessionState.RUNNING, SessionState.CANCEL_REQUESTED)
# The longest session, and an hour for the queue and for clocks that differ.
_LIVE_S = 13 * 3600.0
# How Kaggle names an image; a tag such as ":latest" names none for long.
_DIGEST = re.compile(r"[\w./:-]{1,200}@sha256:[0-9a-f]{64}", re.ASCII)
# How the name of a session's machine ends.
_SESSION_ID = re.compile(r"(?:^|\D)(\d{1,18})$")
# Without it Kaggle takes its newest image, whatever an earlier version of the kernel ran in.
_THIS_IMAGE = "original"
LIMITS = Limits(
    LONGEST_SESSION_S,
    ROOM,
    SOURCE_LIMIT_BYTES - environment.BYTES,
    session_installs=True,
    memory_bytes=MEMORY_BYTES,
    output_bytes=OUTPUT_BYTES,
    output_files=OUTPUT_FILES,
)
"""What Kaggle is known to bound."""


class KaggleClient(ApiConnection, Platform):
    """Kaggle as a `platforms.platform.Platform`; built like `ApiConnection`."""

    # Each a module of its own.
    download_file = download_file
    download = download_outputs
    outputs = list_outputs
    output_named = output_named
    follow_log = follow_log
    download_inputs = datasets.download_dataset_files
    find_published = datasets.find_submitted
    belongings = belongings
    delete_inputs = delete_dataset
    input_versions = inputs.dataset_versions
    check_competition = inputs.check_competition
    newest_model_version = inputs.newest_model_version

    def limits(self) -> Limits:
        return LIMITS

    def page(self, owner: str, slug: str) -> str:
        """The page of a kernel; the local Kaggle has none."""
        return "" if self.transport.is_loopback else page_of(f"{owner}/{slug}")

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
        """`datasets.publish_dataset`, with begun uploads written down in `uploads`."""
        return datasets.publish_dataset(
            self,
            owner=owner,
            slug=slug,
            files=files,
            notes=notes,
            on_progress=on_progress,
            on_uploaded=on_uploaded,
            on_order=on_order,
            on_accepted=on_accepted,
            memory=UploadMemory(uploads) if uploads else None,
            replaces=replaces,
        )

    @property
    def _kernels(self) -> Any:
        return KernelsApiClient(self.transport)

    def start(self, push: SessionRequest) -> StartedSession:
        """Start one session. Repeated only when surely nothing was accepted (no connection, or 429).

        Raises:
            CapacityReached, QuotaError, RateLimited, AuthError, Unavailable: nothing was started.
            ConfigError, BundleTooLarge: nothing was started, and the same push will not be accepted.
            PushMismatch: a session was started, but not as asked.
            AmbiguousPush: whether it was started is not known; look before pushing again.
        """
        try:
            reply = self.send(self._save_kernel, _save_request(push), on=NOT_ACCEPTED)
        except Refused as error:
            refused = error
        except NotSent:
            raise
        except (Unavailable, ProtocolError) as error:
            raise ambiguous(push, error.message) from None
        else:
            return read_push_reply(push, reply)
        if refused.status == 404:
            raise refusal(push, refused.text or "Notebook not found")
        if refused.status in (401, 403):
            raise self.explain(refused, f"kernel {push.owner}/{push.slug}")
        if refused.status == 413:
            raise refusal(push, "The kernel source must be less than the limit.")
        raise refusal(push, refused.text or f"HTTP {refused.status}")

    def _save_kernel(self, request: ApiSaveKernelRequest) -> JsonAnswer:
        return self.raw(_KERNELS, "SaveKernel", request)

    def status(self, version: SessionRef) -> SessionStatus:
        """State of exactly this session.

        Raises:
            NotFound: no such version, or not visible yet. AuthError, RemoteError.
        """
        request = pin(version, ApiGetKernelSessionStatusRequest())
        answer = self.call(self._session_status, request, about=about(version))
        raw = str(answer.get("status") or "")
        return SessionStatus(state_of(raw), quotable(str(answer.get("failureMessage") or "")), raw)

    def _session_status(self, request: ApiGetKernelSessionStatusRequest) -> JsonAnswer:
        return self.raw(_KERNELS, "GetKernelSessionStatus", request)

    def newest(self, owner: str, slug: str) -> tuple[SessionRef, str] | None:
        """The newest version of a kernel and its source; None when there is no such kernel.

        Raises:
            NoVersionShown: there is a kernel, and Kaggle can show no version of it. AuthError, RemoteError.
        """
        request = ApiGetKernelRequest()
        request.user_name, request.kernel_slug = owner, slug
        try:
            answer = self.call(self._get_kernel, request, about=f"kernel {owner}/{slug}")
        except NotFound:
            return None
        except ServerFailed as error:
            raise NoVersionShown(f"Kaggle cannot show kernel {owner}/{slug}: {error.message}") from None
        number, source = _part(answer, "metadata").get("currentVersionNumber"), _part(answer, "blob").get("source")
        if not isinstance(number, int) or number < 1:
            raise NoVersionShown(f"Kaggle describes kernel {owner}/{slug} without a version number.")
        return SessionRef(owner, slug, str(number)), source if isinstance(source, str) else ""

    def image_of(self, version: SessionRef) -> str:
        """The docker image this version ran in, by its digest; "" when Kaggle does not say.

        Raises:
            NotFound, AuthError, RemoteError.
        """
        answer = self.call(self._get_kernel, pin(version, ApiGetKernelRequest()), about=about(version))
        image = _part(answer, "metadata").get("dockerImage")
        return image if isinstance(image, str) and _DIGEST.fullmatch(image) else ""

    def _get_kernel(self, request: ApiGetKernelRequest) -> JsonAnswer:
        """Without the SDK's types: a field that nobody asks for, of a kind they do not know, must not cost a push."""
        return self.raw(_KERNELS, "GetKernel", request)

    def mine(self, owner: str) -> list[str]:
        """Slugs of the kernels `owner` ran last, newest first; one page of them.

        Raises:
            AuthError, RemoteError.
        """
        return [slug for slug, _ in self._ran_last(owner)]

    def _ran_last(self, owner: str) -> list[tuple[str, str]]:
        """(slug, when it ran last in ISO 8601, or "") of the kernels `owner` ran last; an empty one has no address."""
        request = ApiListKernelsRequest()
        request.group, request.sort_by = KernelsListViewType.PROFILE, KernelsListSortType.DATE_RUN
        request.page_size = _OWN_KERNELS
        answer = self.call(self._list_kernels, request, about=f"kernels of {owner}")
        listed = answer.get("kernels")
        kernels = [kernel for kernel in listed if isinstance(kernel, dict)] if isinstance(listed, list) else []
        found = [(str(kernel.get("ref") or "").strip("/").split("/"), kernel.get("lastRunTime")) for kernel in kernels]
        return [
            (address[-1], str(ran or ""))
            for address, ran in found
            if len(address) >= 2 and address[-2].lower() == owner.lower()
        ]

    def _list_kernels(self, request: ApiListKernelsRequest) -> JsonAnswer:
        return self.raw(_KERNELS, "ListKernels", request)

    def live(self, owner: str) -> Counter[str]:
        """How many sessions of `owner` wait or run, by what they run on (see `models.ROOM`), as far as kernels show it.

        What runs in a browser, and what ran longer ago than a session lasts, is not seen.

        Raises:
            AuthError, RemoteError.
        """
        oldest, live = datetime.now(UTC).timestamp() - _LIVE_S, Counter[str]()
        # Of one without a time nobody knows that it is over.
        for slug in [slug for slug, ran in self._ran_last(owner) if (at := moment_of(ran)) is None or at >= oldest]:
            request = ApiGetKernelRequest()
            request.user_name, request.kernel_slug = owner, slug
            kernel = f"kernel {owner}/{slug}"
            try:
                if self._newest_state(owner, slug) not in _LIVE:
                    continue
                live[_accelerator_of(_part(self.call(self._get_kernel, request, about=kernel), "metadata"))] += 1
            except NotFound:
                continue  # deleted a moment ago
        return live

    def shows_nothing_of(self, owner: str, slug: str) -> bool:
        """Whether Kaggle knows no session of this kernel, and lists none of that name among those that ran last.

        Raises:
            AuthError, RemoteError.
        """
        try:
            self._newest_state(owner, slug)
        except NotFound:
            return slug not in self.mine(owner)
        return False

    def _newest_state(self, owner: str, slug: str) -> SessionState:
        """The state of a kernel's newest session."""
        request = ApiGetKernelSessionStatusRequest()
        request.user_name, request.kernel_slug = owner, slug
        answer = self.call(self._session_status, request, about=f"a session of kernel {owner}/{slug}")
        return state_of(str(answer.get("status") or ""))

    def is_later(self, of_platform: str, than: str) -> bool:
        """Versions of a kernel are numbered."""
        return int(of_platform) > int(than)

    def others_between(self, before: str, version: SessionRef) -> str:
        first, last = int(before or 0) + 1, int(version.id) - 1
        return f"version {first} to {last} of this kernel" if first <= last else ""

    def cancel(self, version: SessionRef, told: str) -> bool:
        """Ask Kaggle to stop a running session. Its id is known to the session itself alone, in its machine's name.

        Raises:
            NotFound: no such session of this account. AuthError, RemoteError.
        """
        found = _SESSION_ID.search(told)
        if found is None:
            return False
        session_id = int(found[1])
        request = ApiCancelKernelSessionRequest()
        request.kernel_session_id = session_id
        answer = self.call(self._kernels.cancel_kernel_session, request, about=f"session {session_id}")
        _no_error(answer.error_message, f"cancel session {session_id}")
        return True

    def delete(self, owner: str, slug: str) -> None:
        """Delete a kernel with every version and output. This ends its running sessions and cannot be undone.

        Raises:
            NotFound: no such kernel of this account. AuthError, RemoteError.
        """
        request = ApiDeleteKernelRequest()
        request.user_name, request.kernel_slug = owner, slug
        answer = self.call_to_delete(self._kernels.delete_kernel, request, about=f"kernel {owner}/{slug}")
        if answer is not None:
            _no_error(answer.error_message, f"delete kernel {owner}/{slug}")

    def quota(self, machine: str = "") -> Quota:
        """This week's GPU time, or the TPU time for a machine that is one.

        Raises:
            AuthError, RemoteError.
        """
        request = ApiGetAcceleratorQuotaStatisticsRequest()
        answer = self.call(self._kernels.get_accelerator_quota_statistics, request, about="accelerator quota")
        kind = "TPU" if runs_on(machine) == "TPU" else "GPU"
        week = answer.tpu_quota if kind == "TPU" else answer.gpu_quota
        if week is None or week.total_time_allowed is None:
            raise ProtocolError(f"Kaggle's answer about the quota does not say how much {kind} time there is.")
        return Quota(
            used_s=_seconds(week.time_used),
            reserved_s=_seconds(week.time_reserved),
            total_s=_seconds(week.total_time_allowed),
            refresh_time=_utc(answer.quota_refresh_time),
        )


def page_of(address: str) -> str:
    return f"https://www.kaggle.com/code/{address}"


def _save_request(push: SessionRequest) -> ApiSaveKernelRequest:
    request = ApiSaveKernelRequest()
    request.slug = f"{push.owner}/{push.slug}"
    request.new_title = title_for(push.slug, shortest=_SHORTEST_TITLE)
    request.text = environment.with_environment(push.source)
    request.language, request.kernel_type = "python", "script"
    request.is_private = True
    request.enable_internet = push.internet
    # The machine shape decides; the older switches are sent so that an earlier version's setting cannot stay on.
    request.enable_gpu = runs_on(push.accelerator) == "GPU"
    request.enable_tpu = runs_on(push.accelerator) == "TPU"
    request.machine_shape = push.accelerator
    request.dataset_data_sources = list(push.inputs)
    request.competition_data_sources = list(push.competitions)
    request.model_data_sources = list(push.models)
    request.session_timeout_seconds = push.session_timeout_s
    if push.image:
        request.docker_image, request.docker_image_pinning_type = push.image, _THIS_IMAGE
    return request


def _part(answer: JsonAnswer, name: str) -> dict[str, Any]:
    part = answer.get(name)
    return part if isinstance(part, dict) else {}


def _accelerator_of(metadata: Mapping[str, Any]) -> str:
    if metadata.get("machineShape"):
        return runs_on(str(metadata["machineShape"]))
    return "GPU" if metadata.get("enableGpu") else "TPU" if metadata.get("enableTpu") else "CPU"


def _no_error(message: str | None, what: str) -> None:
    if message:
        raise ProtocolError(f"Kaggle did not {what}: {message}")


def _seconds(span: timedelta | None) -> float:
    return span.total_seconds() if span else 0.0


def _utc(moment: datetime | None) -> datetime | None:
    """The SDK reads UTC without saying so."""
    if moment is None:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
