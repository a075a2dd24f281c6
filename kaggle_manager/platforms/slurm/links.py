"""Where a session finds its inputs, and where these lie on the cluster's disk. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kaggle_manager.errors import ConfigError
from kaggle_manager.platforms.platform import SessionRequest


def links_of(push: SessionRequest, folders: Mapping[str, str]) -> list[str]:
    """The inputs of a session as `remote.PREPARE` takes them: PLACE:SOURCE.

    Args:
        folders: those that lie there already, by their names.

    Raises:
        ConfigError: one is neither there nor published.
    """
    links = [_of_dataset(source, folders) for source in push.inputs]
    for source in push.competitions:
        links.append(f"competitions/{source}:{folder_of(f'competition:{source}', folders)}")
    for source in push.models:
        name, _, _ = source.rpartition("/")
        links.append(f"models/{source}:{folder_of(f'model:{name}', folders)}")
    return links


def _of_dataset(source: str, folders: Mapping[str, str]) -> str:
    owner, slug, *version = source.split("/")
    if folder := folders.get(f"{owner}/{slug}"):
        return f"datasets/{owner}/{slug}:{folder}"
    return f"{slug}:{'/'.join([slug, *version])}"


def folder_of(name: str, folders: Mapping[str, str]) -> str:
    """The folder that an input is on the cluster.

    Raises:
        ConfigError: the settings name none.
    """
    if folder := folders.get(name):
        return folder
    raise ConfigError(
        f"Nothing says where {name} lies on the cluster.",
        safe="nothing was started",
        next_step=f'name its folder: "{name}" = "/path/of/it" under [platform.slurm.inputs] in section.toml',
    )
