"""What an account has on Kaggle: its kernels and datasets by name, and the deletion of a dataset.

A list that ends early or repeats itself is taken as it is: who acts on it must not need what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from kagglesdk.datasets.services.dataset_api_service import DatasetApiClient
from kagglesdk.datasets.types.dataset_api_service import ApiDeleteDatasetRequest, ApiListDatasetsRequest
from kagglesdk.datasets.types.dataset_enums import DatasetSelectionGroup
from kagglesdk.kernels.types.kernels_api_service import ApiListKernelsRequest
from kagglesdk.kernels.types.kernels_enums import KernelsListSortType, KernelsListViewType

from kaggle_manager.errors import ProtocolError
from kaggle_manager.platforms.kaggle.auth import quotable
from kaggle_manager.platforms.kaggle.connection import ApiConnection
from kaggle_manager.platforms.kaggle.transport import JsonAnswer
from kaggle_manager.platforms.platform import Belonging

# Kaggle's pages have 20 entries unless asked; 100 is the most that the official client asks for.
_PAGE = 100
_MOST_PAGES = 100


def belongings(client: ApiConnection, owner: str) -> list[Belonging]:
    """The kernels of `owner`, which is this account, the one that ran last first; and its datasets.

    Raises:
        AuthError, RemoteError.
    """
    kernels = ApiListKernelsRequest()
    kernels.group, kernels.page_size = KernelsListViewType.PROFILE, _PAGE
    kernels.sort_by = KernelsListSortType.DATE_RUN
    datasets = ApiListDatasetsRequest()
    datasets.group, datasets.page_size = DatasetSelectionGroup.DATASET_SELECTION_GROUP_MY, _PAGE

    def list_kernels(request: ApiListKernelsRequest) -> JsonAnswer:
        return client.raw("kernels.KernelsApiService", "ListKernels", request)

    def list_datasets(request: ApiListDatasetsRequest) -> JsonAnswer:
        return client.raw("datasets.DatasetApiService", "ListDatasets", request)

    found = []
    for item in _pages(client, list_kernels, kernels, "kernels", about=f"kernels of {owner}"):
        if not item.get("ref") or _is_of(owner, item):
            found.append(Belonging("session", _slug(item), moment_of(item.get("lastRunTime"))))
    for item in _pages(client, list_datasets, datasets, "datasets", about=f"datasets of {owner}"):
        if _is_of(owner, item):
            size = item.get("totalBytes")
            found.append(Belonging("input", _slug(item), moment_of(item.get("lastUpdated")), size))
    return list(dict.fromkeys(found))


def delete_dataset(client: ApiConnection, owner: str, slug: str) -> None:
    """Delete a dataset with every version; this cannot be undone.

    Raises:
        NotFound: no such dataset of this account. AuthError, RemoteError.
    """
    request = ApiDeleteDatasetRequest()
    request.owner_slug, request.dataset_slug = owner, slug
    answer = client.call_to_delete(
        DatasetApiClient(client.transport).delete_dataset, request, about=f"dataset {owner}/{slug}"
    )
    if answer is not None and answer.error:
        raise ProtocolError(f"Kaggle did not delete dataset {owner}/{slug}: {quotable(answer.error)}")


def _pages(
    client: ApiConnection, ask: Callable[[Any], JsonAnswer], request: Any, field: str, *, about: str
) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for _ in range(_MOST_PAGES):
        answer = client.call(ask, request, about=about)
        yield from answer.get(field) or ()
        token = str(answer.get("nextPageToken") or "")
        if not token or token in seen:
            return
        seen.add(token)
        request.page_token = token


def _is_of(owner: str, item: dict[str, Any]) -> bool:
    names = _names(item)
    return len(names) >= 2 and names[-2].lower() == owner.lower()


def _slug(item: dict[str, Any]) -> str:
    return (_names(item) or [""])[-1]


def _names(item: dict[str, Any]) -> list[str]:
    return [name for name in str(item.get("ref") or "").split("/") if name]


def moment_of(text: Any) -> float | None:
    """A time of Kaggle's, in seconds since the epoch: UTC where it does not say; None for no time."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
