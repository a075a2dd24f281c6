"""What Kaggle says of data that somebody else may own: is it there for this account, and in which versions.

Each asks what the official client asks before a download. Nothing is downloaded or changed here.
"""

from __future__ import annotations

from kagglesdk.competitions.services.competition_api_service import CompetitionApiClient
from kagglesdk.competitions.types.competition_api_service import ApiListDataFilesRequest
from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest
from kagglesdk.models.types.model_api_service import ApiGetModelInstanceRequest
from kagglesdk.models.types.model_enums import ModelFramework

from kaggle_manager.errors import ConfigError
from kaggle_manager.platforms.kaggle.connection import NOT_ACCEPTED, ApiConnection
from kaggle_manager.platforms.kaggle.transport import JsonAnswer


def dataset_versions(client: ApiConnection, owner: str, slug: str) -> tuple[int, frozenset[int]]:
    """The version of a dataset that a kernel would mount, 0 while there is none; and all that Kaggle lists.

    Raises:
        NotFound: there is no such dataset for this account. AuthError, RemoteError.
    """
    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = owner, slug

    def get_dataset(request: ApiGetDatasetRequest) -> JsonAnswer:
        return client.raw("datasets.DatasetApiService", "GetDataset", request)

    answer = client.call(get_dataset, request, about=f"dataset {owner}/{slug}")
    listed = frozenset(int(each.get("versionNumber") or 0) for each in answer.get("versions") or ())
    return int(answer.get("currentVersionNumber") or 0), listed


def check_competition(client: ApiConnection, name: str) -> None:
    """Whether this account may read a competition's data, for which it has to accept the rules.

    Raises:
        NotFound: it may not, or there is none. ConfigError, AuthError, RemoteError: it is not known.
    """
    request = ApiListDataFilesRequest()
    request.competition_name, request.page_size = name, 1
    ask = CompetitionApiClient(client.transport).list_data_files
    client.call(ask, request, about=f"competition {name}", on=NOT_ACCEPTED)


def newest_model_version(client: ApiConnection, owner: str, model: str, framework: str, variation: str) -> int:
    """The newest version of a model's variation.

    Raises:
        NotFound: there is none for this account. ConfigError, AuthError, RemoteError: it is not known.
    """
    request = ApiGetModelInstanceRequest()
    request.owner_slug, request.model_slug, request.instance_slug = owner, model, variation
    request.framework = _framework(framework)

    def get_model_instance(request: ApiGetModelInstanceRequest) -> JsonAnswer:
        return client.raw("models.ModelApiService", "GetModelInstance", request)

    about = f"model {owner}/{model}/{framework}/{variation}"
    return int(client.call(get_model_instance, request, about=about, on=NOT_ACCEPTED).get("versionNumber") or 0)


def _framework(name: str) -> ModelFramework:
    """The SDK's value of a framework, whose name an address writes as `tensorFlow2` or `pytorch`."""
    wanted = "".join(character for character in name.lower() if character.isalnum())
    for each in ModelFramework:
        if each.name.removeprefix("MODEL_FRAMEWORK_").replace("_", "").lower() == wanted:
            return each
    raise ConfigError(f"The official client knows no framework {name!r} of models.", safe="nothing was asked")
