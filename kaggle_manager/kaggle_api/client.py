"""The Kaggle adapter: typed answers and typed errors over the official SDK.

Promises: every call has time-outs; what is safe to repeat is repeated with full jitter; every question about a session
names its version; a refusal is told apart from a wrong name by asking who we are. Never repeats a push that may have
been accepted, and never reads an unknown status as an end.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from kagglesdk.kernels.services.kernels_api_service import KernelsApiClient
from kagglesdk.kernels.types.kernels_api_service import (
    ApiCancelKernelSessionRequest,
    ApiDeleteKernelRequest,
    ApiGetAcceleratorQuotaStatisticsRequest,
    ApiGetKernelRequest,
    ApiGetKernelSessionStatusRequest,
    ApiListKernelSessionOutputRequest,
    ApiSaveKernelRequest,
)

from kaggle_manager.errors import NotFound, ProtocolError, Unavailable
from kaggle_manager.kaggle_api.account import NOT_ACCEPTED, Account
from kaggle_manager.kaggle_api.datasets import publish_dataset
from kaggle_manager.kaggle_api.download import download_file
from kaggle_manager.kaggle_api.log_stream import follow_log
from kaggle_manager.kaggle_api.models import (
    KernelPush,
    KernelState,
    KernelStatus,
    KernelVersion,
    OutputFile,
    OutputListing,
    PushedKernel,
    Quota,
)
from kaggle_manager.kaggle_api.names import check_file_name, title_for
from kaggle_manager.kaggle_api.outputs import download_outputs
from kaggle_manager.kaggle_api.own_kernels import own_kernels
from kaggle_manager.kaggle_api.push_reply import ambiguous, read_push_reply, refusal
from kaggle_manager.kaggle_api.transport import JsonAnswer, NotSent, Refused

__all__ = [
    "KaggleClient",
    "KernelPush",
    "KernelState",
    "KernelStatus",
    "KernelVersion",
    "OutputFile",
    "OutputListing",
    "PushedKernel",
    "Quota",
]

_KERNELS = "kernels.KernelsApiService"
_OUTPUT_PAGE = 200
_SHORTEST_TITLE = 5
# No kernel has this many pages of outputs; a listing that does not end is not followed for ever.
_MOST_PAGES = 1000


class KaggleClient(Account):
    """What the manager asks Kaggle about kernels; built like `Account`."""

    # Each a module of its own. As methods they are all a manager needs: what has the same methods can stand for Kaggle.
    download_file = download_file
    download_outputs = download_outputs
    follow_log = follow_log
    own_kernels = own_kernels
    publish_dataset = publish_dataset

    @property
    def _kernels(self) -> Any:
        return KernelsApiClient(self.transport)

    def push_kernel(self, push: KernelPush) -> PushedKernel:
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
        if refused.status in (401, 403, 404):
            raise self.explain(refused, f"kernel {push.owner}/{push.slug}")
        if refused.status == 413:
            raise refusal(push, "The kernel source must be less than the limit.")
        raise refusal(push, refused.text or f"HTTP {refused.status}")

    def _save_kernel(self, request: ApiSaveKernelRequest) -> JsonAnswer:
        return self.raw(_KERNELS, "SaveKernel", request)

    def kernel_status(self, version: KernelVersion) -> KernelStatus:
        """State of exactly this session.

        Raises:
            NotFound: no such version, or not visible yet. AuthError, RemoteError.
        """
        request = _pinned(ApiGetKernelSessionStatusRequest(), version)
        answer = self.call(self._session_status, request, about=_about(version))
        raw = str(answer.get("status") or "")
        return KernelStatus(KernelState.parse(raw), str(answer.get("failureMessage") or ""), raw)

    def _session_status(self, request: ApiGetKernelSessionStatusRequest) -> JsonAnswer:
        return self.raw(_KERNELS, "GetKernelSessionStatus", request)

    def newest_kernel(self, owner: str, slug: str) -> tuple[KernelVersion, str] | None:
        """The newest version of a kernel and its source; None when there is no such kernel.

        Raises:
            AuthError, RemoteError.
        """
        request = ApiGetKernelRequest()
        request.user_name, request.kernel_slug = owner, slug
        try:
            answer = self.call(self._kernels.get_kernel, request, about=f"kernel {owner}/{slug}")
        except NotFound:
            return None
        number = answer.metadata.current_version_number if answer.metadata else None
        if not number:
            raise ProtocolError(f"Kaggle describes kernel {owner}/{slug} without a version number.")
        return KernelVersion(owner, slug, number), (answer.blob.source or "") if answer.blob else ""

    def list_outputs(self, version: KernelVersion) -> OutputListing:
        """Every output of exactly this session, over all pages, and its log.

        Raises:
            NotFound, AuthError, RemoteError.
            UnsafePath: a name that is not a plain path. ProtocolError: a name listed twice.
        """
        request = _pinned(ApiListKernelSessionOutputRequest(), version)
        request.page_size = _OUTPUT_PAGE
        files: dict[str, OutputFile] = {}
        log = ""
        for _ in range(_MOST_PAGES):
            page = self.call(self._kernels.list_kernel_session_output, request, about=_about(version))
            log = log or page.log or ""
            for listed in page.files or ():
                name = listed.file_name or ""
                check_file_name(name)
                if name.lower() in files:  # two names that one folder may not be able to keep apart
                    raise ProtocolError(f"Kaggle lists {name!r} twice for {version.ref}.")
                files[name.lower()] = OutputFile(name, listed.url or "")
            if not page.next_page_token:
                return OutputListing(tuple(files.values()), log)
            request.page_token = page.next_page_token
        raise ProtocolError(f"The list of outputs of {version.ref} does not end.")

    def cancel_session(self, session_id: int) -> None:
        """Ask Kaggle to stop a running session. The id is known to the session itself alone.

        Raises:
            NotFound: no such session of this account. AuthError, RemoteError.
        """
        request = ApiCancelKernelSessionRequest()
        request.kernel_session_id = session_id
        answer = self.call(self._kernels.cancel_kernel_session, request, about=f"session {session_id}")
        _no_error(answer.error_message, f"cancel session {session_id}")

    def delete_kernel(self, owner: str, slug: str) -> None:
        """Delete a kernel with every version and output. This ends its running sessions and cannot be undone.

        Raises:
            NotFound: no such kernel of this account. AuthError, RemoteError.
        """
        request = ApiDeleteKernelRequest()
        request.user_name, request.kernel_slug = owner, slug
        tries = 0

        def delete(request: ApiDeleteKernelRequest) -> Any:
            nonlocal tries
            tries += 1
            return self._kernels.delete_kernel(request)

        try:
            answer = self.call(delete, request, about=f"kernel {owner}/{slug}")
        except NotFound:
            if tries == 1:
                raise
            return  # a try whose answer was lost has done it
        _no_error(answer.error_message, f"delete kernel {owner}/{slug}")

    def quota(self) -> Quota:
        """This week's GPU time.

        Raises:
            AuthError, RemoteError.
        """
        request = ApiGetAcceleratorQuotaStatisticsRequest()
        answer = self.call(self._kernels.get_accelerator_quota_statistics, request, about="accelerator quota")
        gpu = answer.gpu_quota
        if gpu is None or gpu.total_time_allowed is None:
            raise ProtocolError("Kaggle's answer about the quota does not say how much GPU time there is.")
        return Quota(
            gpu_used_s=_seconds(gpu.time_used),
            gpu_reserved_s=_seconds(gpu.time_reserved),
            gpu_total_s=_seconds(gpu.total_time_allowed),
            refresh_time=_utc(answer.quota_refresh_time),
        )


def _save_request(push: KernelPush) -> ApiSaveKernelRequest:
    request = ApiSaveKernelRequest()
    request.slug = f"{push.owner}/{push.slug}"
    request.new_title = title_for(push.slug, shortest=_SHORTEST_TITLE)
    request.text = push.source
    request.language = push.language
    request.kernel_type = push.kernel_type
    request.is_private = push.private
    request.enable_internet = push.internet
    # The machine shape decides; the older switches are sent so that an earlier version's setting cannot stay on.
    request.enable_gpu = (push.accelerator or "").startswith("Nvidia")
    request.enable_tpu = (push.accelerator or "").startswith("Tpu")
    request.machine_shape = push.accelerator
    request.dataset_data_sources = list(push.dataset_sources)
    request.session_timeout_seconds = push.session_timeout_s
    return request


def _pinned(request: Any, version: KernelVersion) -> Any:
    request.user_name, request.kernel_slug, request.version_label = version.owner, version.slug, version.label
    return request


def _about(version: KernelVersion) -> str:
    return f"kernel {version.owner}/{version.slug} {version.label}"


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
