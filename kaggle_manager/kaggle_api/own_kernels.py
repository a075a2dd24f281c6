"""The account's own kernels, the one that ran last first. One page of them: the newest are what is looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kagglesdk.kernels.services.kernels_api_service import KernelsApiClient
from kagglesdk.kernels.types.kernels_api_service import ApiListKernelsRequest
from kagglesdk.kernels.types.kernels_enums import KernelsListSortType, KernelsListViewType

if TYPE_CHECKING:  # a client has what is in here as its method
    from kaggle_manager.kaggle_api.client import KaggleClient

_PAGE = 20


def own_kernels(client: KaggleClient, owner: str) -> list[str]:
    """Slugs of the kernels `owner` ran last, newest first.

    Raises:
        AuthError, RemoteError.
    """
    request = ApiListKernelsRequest()
    request.group, request.sort_by = KernelsListViewType.PROFILE, KernelsListSortType.DATE_RUN
    request.page_size = _PAGE
    answer = client.call(KernelsApiClient(client.transport).list_kernels, request, about=f"kernels of {owner}")
    addresses = [(kernel.ref or "").strip("/").split("/") for kernel in answer.kernels or ()]
    return [address[-1] for address in addresses if len(address) >= 2 and address[-2].lower() == owner.lower()]
