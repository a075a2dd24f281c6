"""What tests need to talk to a local Kaggle: the official SDK in few words, a clock that can be turned, patience."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from kagglesdk import KaggleClient
from kagglesdk.blobs.types.blob_api_service import ApiBlobType, ApiStartBlobUploadRequest
from kagglesdk.datasets.types import dataset_api_service as dataset_types
from kagglesdk.kernels.types import kernels_api_service as kernel_types

from kaggle_manager.local_kaggle import disk
from kaggle_manager.local_kaggle.database import ServerState

ENDED = ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")


HANGS_AFTER_S = 120.0


def until(condition: Callable[[], Any]) -> Any:
    """The first true value of `condition`. However loaded the machine is: only a hang ends in an error."""
    deadline = time.monotonic() + HANGS_AFTER_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {HANGS_AFTER_S} s"
        time.sleep(0.03)
    return value


def waiting_for(file: Path) -> str:
    """Lines of a kernel that waits until a test makes `file`."""
    return f"import pathlib, time\nwhile not pathlib.Path({str(file)!r}).exists():\n    time.sleep(0.02)\n"


class Client:
    """The official SDK, pointed at a loopback server."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token

    def call(self, service: str, method: str, request: Any, **fields: Any) -> Any:
        for name, value in fields.items():
            setattr(request, name, value)
        with KaggleClient(api_token=self.token) as sdk:
            http = sdk.http_client()
            http._endpoint = self.url
            http._init_session()
            http._session.trust_env = False
            api = {
                "kernels": sdk.kernels.kernels_api_client,
                "datasets": sdk.datasets.dataset_api_client,
                "blobs": sdk.blobs.blob_api_client,
            }[service]
            return getattr(api, method)(request)

    # Kernels

    def push(self, text: str, *, slug: str = "little-kernel", owner: str = "local", **fields: Any) -> Any:
        defaults = {
            "slug": f"{owner}/{slug}",
            "new_title": slug.replace("-", " ").title(),
            "text": text,
            "language": "python",
            "kernel_type": "script",
            "is_private": True,
        }
        return self.call("kernels", "save_kernel", kernel_types.ApiSaveKernelRequest(), **(defaults | fields))

    def _of(self, method: str, request: Any, slug: str, version: int | None, **fields: Any) -> Any:
        label = f"v{version}" if version else None
        return self.call("kernels", method, request, user_name="local", kernel_slug=slug, version_label=label, **fields)

    def status(self, slug: str = "little-kernel", version: int | None = None) -> tuple[str, str]:
        request = kernel_types.ApiGetKernelSessionStatusRequest()
        answer = self._of("get_kernel_session_status", request, slug, version)
        return answer.status.name, answer.failure_message

    def output(self, slug: str = "little-kernel", version: int | None = None, **fields: Any) -> Any:
        request = kernel_types.ApiListKernelSessionOutputRequest()
        return self._of("list_kernel_session_output", request, slug, version, **fields)

    def kernel(self, slug: str = "little-kernel", version: int | None = None) -> Any:
        return self._of("get_kernel", kernel_types.ApiGetKernelRequest(), slug, version)

    def delete(self, slug: str = "little-kernel") -> None:
        request = kernel_types.ApiDeleteKernelRequest()
        self.call("kernels", "delete_kernel", request, user_name="local", kernel_slug=slug)

    def cancel(self, session_id: int) -> None:
        request = kernel_types.ApiCancelKernelSessionRequest()
        self.call("kernels", "cancel_kernel_session", request, kernel_session_id=session_id)

    def quota(self) -> Any:
        request = kernel_types.ApiGetAcceleratorQuotaStatisticsRequest()
        return self.call("kernels", "get_accelerator_quota_statistics", request)

    def end(self, slug: str = "little-kernel", version: int | None = None) -> tuple[str, str]:
        """Wait for the end of a session; (status, failure message)."""
        until(lambda: self.status(slug, version)[0] in ENDED)
        return self.status(slug, version)

    def running(self, slug: str = "little-kernel", version: int | None = None) -> None:
        until(lambda: self.status(slug, version)[0] == "RUNNING")

    def log(self, slug: str = "little-kernel", version: int | None = None) -> str:
        """What the kernel printed, both streams."""
        return "".join(event["data"] for event in json.loads(self.output(slug, version).log))

    def run(self, text: str, *, slug: str = "little-kernel", **fields: Any) -> str:
        """Push, wait for COMPLETE, and return what was printed."""
        version = self.push(text, slug=slug, **fields).version_number
        status, failure = self.end(slug, version)
        log = self.log(slug, version)
        assert status == "COMPLETE", f"{failure}\n{log}"
        return log

    # Datasets

    def upload(self, name: str, content: bytes) -> str:
        started = self.start_upload(name, len(content))
        requests.put(started.create_url, data=content, timeout=10).raise_for_status()
        token: str = started.token
        return token

    def start_upload(self, name: str, length: int) -> Any:
        request = ApiStartBlobUploadRequest()
        fields = {"type": ApiBlobType.DATASET, "name": name, "content_length": length}
        return self.call("blobs", "start_blob_upload", request, **fields)

    def _files(self, files: dict[str, bytes]) -> list[Any]:
        items = []
        for name, content in files.items():
            item = dataset_types.ApiDatasetNewFile()
            item.token = self.upload(name, content)
            items.append(item)
        return items

    def create_dataset(self, files: dict[str, bytes], *, slug: str = "little-data") -> Any:
        fields = {"owner_slug": "local", "slug": slug, "title": slug, "license_name": "CC0-1.0", "is_private": True}
        request = dataset_types.ApiCreateDatasetRequest()
        return self.call("datasets", "create_dataset", request, files=self._files(files), **fields)

    def create_dataset_version(self, files: dict[str, bytes], *, slug: str = "little-data", **fields: Any) -> Any:
        body = dataset_types.ApiCreateDatasetVersionRequestBody()
        body.files = self._files(files)
        for name, value in fields.items():
            setattr(body, name, value)
        request = dataset_types.ApiCreateDatasetVersionRequest()
        fields = {"owner_slug": "local", "dataset_slug": slug, "body": body}
        return self.call("datasets", "create_dataset_version", request, **fields)

    def _about(self, method: str, request: Any, slug: str, **fields: Any) -> Any:
        return self.call("datasets", method, request, owner_slug="local", dataset_slug=slug, **fields)

    def dataset_status(self, slug: str = "little-data") -> str:
        name: str = self._about("get_dataset_status", dataset_types.ApiGetDatasetStatusRequest(), slug).status.name
        return name

    def dataset(self, slug: str = "little-data") -> Any:
        return self._about("get_dataset", dataset_types.ApiGetDatasetRequest(), slug)

    def dataset_files(self, slug: str = "little-data") -> list[str]:
        answer = self._about("list_dataset_files", dataset_types.ApiListDatasetFilesRequest(), slug)
        return [item.name for item in answer.dataset_files]

    def dataset_file(self, name: str, *, slug: str = "little-data", version: int | None = None) -> bytes:
        request = dataset_types.ApiDownloadDatasetRequest()
        fields = {"file_name": name, "dataset_version_number": version}
        content: bytes = self._about("download_dataset", request, slug, **fields).content
        return content

    def ready_dataset(self, files: dict[str, bytes], *, slug: str = "little-data") -> None:
        """Create a dataset and wait until kernels can mount it."""
        assert self.create_dataset(files, slug=slug).status == "ok"
        until(lambda: self.dataset_status(slug) == "READY")


@dataclass
class Clock:
    """The real time, moved forward by hand."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@dataclass
class Loopback:
    """A local Kaggle served from this process."""

    root: Path
    url: str
    state: ServerState
    clock: Clock
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(self.url, self.state.account.token)


def end_sessions(root: Path) -> None:
    """End what still runs below `root`, and wait until it is gone."""
    for session in (root / "sessions").glob("*"):
        (session / "cancel").touch()
    until(lambda: not any(disk.is_held(lock) for lock in root.glob("sessions/*/runner.lock")))
