"""Data of others on the local Kaggle: folders put, or linked, into `inputs` by hand, laid out as Kaggle mounts them.

    inputs/datasets/<owner>/<dataset>/
    inputs/competitions/<name>/
    inputs/models/<owner>/<model>/<framework>/<variation>/<version>/

A dataset here has one version, 1. A competition is one whose rules are accepted. What an API call has published under
the same name comes first.
"""

from __future__ import annotations

from pathlib import Path

from kaggle_manager.local_kaggle.serialization import Body, denied, page, text


class Shelf:
    """The folders of one server, and the calls that are about them alone."""

    def __init__(self, root: Path) -> None:
        self._root = root / "inputs"

    def folder(self, *names: str) -> Path | None:
        """The folder of these names, where there is one; links are followed."""
        if any(name in ("", ".", "..") or "/" in name or "\\" in name for name in names):
            return None
        place = self._root.joinpath(*names)
        return place.resolve() if place.is_dir() else None

    def newest(self, *names: str) -> int:
        """The highest version among the folders in the folder of these names; 0 without one."""
        place = self.folder(*names)
        numbers = [int(each.name) for each in place.iterdir() if each.name.isdecimal()] if place else []
        return max(numbers, default=0)

    def list_data_files(self, body: Body) -> Body:
        """`ListDataFiles` of the competition service."""
        folder = self.folder("competitions", text(body, "competitionName"))
        if folder is None:
            raise denied("competitions.participate")
        found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        shown, token = page(found, body)
        files = [
            {"ref": path.relative_to(folder).as_posix(), "name": path.name, "totalBytes": path.stat().st_size}
            for path in shown
        ]
        return {"files": files, "nextPageToken": token, "childrenFetchTimeMs": 0}

    def get_model_instance(self, body: Body) -> Body:
        """`GetModelInstance` of the model service."""
        framework = str(body.get("framework") or "").removeprefix("MODEL_FRAMEWORK_")
        names = self.model(text(body, "ownerSlug"), text(body, "modelSlug"), framework, text(body, "instanceSlug"))
        if names is None or not (number := self.newest(*names)):
            raise denied("models.get")
        return {"slug": names[-1], "versionNumber": number}

    def model(self, owner: str, model: str, framework: str, variation: str) -> tuple[str, ...] | None:
        """The names of a model's folder, whichever way its framework is written."""
        above = self.folder("models", owner, model)
        for each in sorted(above.iterdir()) if above else ():
            if _plain(each.name) == _plain(framework) and (each / variation).is_dir():
                return ("models", owner, model, each.name, variation)
        return None


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
