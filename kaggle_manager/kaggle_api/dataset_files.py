"""Files of a dataset's newest version, brought here. Kaggle gives no hash: the caller verifies what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kagglesdk.datasets.services.dataset_api_service import DatasetApiClient
from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

from kaggle_manager.kaggle_api.client import KaggleClient
from kaggle_manager.kaggle_api.download import Progress, download_file
from kaggle_manager.kaggle_api.models import OutputFile
from kaggle_manager.kaggle_api.names import check_file_name


def download_dataset_files(
    client: KaggleClient,
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
