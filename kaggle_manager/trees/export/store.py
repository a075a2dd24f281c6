"""A folder of files elsewhere: on this machine's disks, or in a cloud through fsspec.

Promises: a file is there whole or not at all; what a store answers becomes a typed error; credentials come from where
each store's own tools look for them (environment, configuration files), never from the address.
Never does: list, read or delete outside its own address; cache an answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from kaggle_manager.checkpoints import Disk
from kaggle_manager.checkpoints.atomic_io import storage_errors, write_atomic
from kaggle_manager.checkpoints.layout import inside
from kaggle_manager.errors import AuthError, ConfigError, NotFound, OutputDamaged, Unavailable

PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "hf": "huggingface_hub",
}
"""What each store needs installed; each of them publishes a file in one step."""
_BLOCK = 1 << 20
# How the libraries of the stores call an endpoint, a profile, a region, a proxy or a certificate file that cannot be
# used; they have no class for it in common. Waiting does not correct a setting.
_SETTINGS = re.compile(
    "Invalid|Profile|Resolution|Validation|NoRegion|Configuration|No such file|certificate verify", re.IGNORECASE
)


class Store(Protocol):
    """A folder elsewhere. Names are relative, with `/`, and were checked by the caller."""

    url: str

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of each file below `folder`, by its name relative to the store; empty when there is none."""

    def blocks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file, in blocks. Raises NotFound, Unavailable, AuthError."""

    def write(self, name: str, data: bytes) -> None:
        """Put a file there, or replace it, in one step. Raises StorageError, Unavailable, AuthError."""

    def remove(self, name: str) -> None:
        """Delete a file; nothing happens when it is not there."""


def open_store(address: str) -> Store:
    """The folder at a path, a `file://` address, or the address of a cloud store.

    Raises:
        ConfigError: the address cannot be used, holds credentials, or its store's package is not installed.
    """
    if not address.strip():
        raise ConfigError(
            "The address is empty.",
            safe="nothing was sent or changed",
            next_step="name a folder or a URL such as s3://bucket/run",
        )
    if "://" not in address:
        return FolderStore(Path(address))
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise ConfigError("The address cannot be read.", next_step="write it like s3://bucket/folder") from error
    scheme = parts.scheme.lower()
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"A {scheme}:// address with credentials or parameters in it is not accepted.",
            safe="nothing was sent, and the address was not written down",
            next_step="leave them out; they are read from the environment or the configuration files of the store",
        )
    if scheme == "file":
        return FolderStore(Path(url2pathname(parts.path)))
    if scheme not in PACKAGES:
        known = ", ".join(f"{name}://" for name in PACKAGES)
        raise ConfigError(
            f"{scheme}:// addresses are not supported; use a folder, file://, {known}.",
            safe="nothing was sent or changed",
            next_step="give one of these",
        )
    if not parts.netloc:
        raise ConfigError(f"{address} names no bucket.", next_step=f"write {scheme}://bucket/folder")
    return CloudStore(scheme, address.rstrip("/"))


def sha256_in(store: Store, name: str) -> str:
    """Read a file where it is and return the SHA-256 of its bytes. Raises what `Store.blocks` raises."""
    digest = hashlib.sha256()
    for block in store.blocks(name):
        digest.update(block)
    return digest.hexdigest()


def read_small(store: Store, name: str, most: int) -> bytes:
    """Return a file of at most `most` bytes.

    Raises:
        NotFound: it is not there.
        OutputDamaged: it is larger.
    """
    data = b""
    for block in store.blocks(name):
        data += block
        if len(data) > most:
            raise OutputDamaged(f"{store.url}/{name} is larger than {most:,} bytes.")
    return data


class FolderStore:
    """A folder of this machine, or of a disk it has mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().resolve()
        self._disk = Disk()
        self.url = str(self._root)

    def sizes(self, folder: str) -> dict[str, int]:
        files = (path for path in (self._root / folder).rglob("*") if path.is_file() and not path.is_symlink())
        return {path.relative_to(self._root).as_posix(): path.stat().st_size for path in files}

    def blocks(self, name: str) -> Iterator[bytes]:
        path = inside(self._root, name)
        if not path.is_file():
            raise NotFound(f"{path} is not there.")
        with storage_errors(f"Reading {path}", safe="nothing was changed"), path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block

    def write(self, name: str, data: bytes) -> None:
        path = inside(self._root, name)
        with storage_errors(f"Writing {path}", safe="the export that was there is whole"):
            self._disk.make_folder(path.parent)
            write_atomic(self._disk, path, data)

    def remove(self, name: str) -> None:
        path = inside(self._root, name)
        with storage_errors(f"Deleting {path}", safe="the export is whole"):
            self._disk.unlink(path)
            with contextlib.suppress(OSError):  # a folder that is not empty stays
                for folder in path.relative_to(self._root).parents[:-1]:
                    self._disk.remove_folder(self._root / folder)


class CloudStore:
    """A folder in a store that fsspec speaks to."""

    def __init__(self, scheme: str, url: str) -> None:
        self.url = url
        try:
            import fsspec

            with self._asking("opening it"):
                self._files = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            package = PACKAGES[scheme]
            extra = "'kaggle-manager[cloud]'" if package == "s3fs" else f"'kaggle-manager[cloud]' {package}"
            raise ConfigError(
                f"{scheme}:// needs {package}, which is not installed.",
                safe="nothing was sent",
                next_step=f"pip install {extra}",
            ) from error
        self._root: str = self._files._strip_protocol(url)

    def sizes(self, folder: str) -> dict[str, int]:
        with self._asking("listing it"):
            try:
                found: dict[str, Any] = self._files.find(f"{self._root}/{folder}", detail=True)
            except FileNotFoundError:
                return {}
        return {name.removeprefix(f"{self._root}/"): int(info["size"]) for name, info in found.items()}

    def blocks(self, name: str) -> Iterator[bytes]:
        with self._asking(f"reading {name}"), self._files.open(f"{self._root}/{name}", "rb") as file:
            while block := file.read(_BLOCK):
                yield block

    def write(self, name: str, data: bytes) -> None:
        with self._asking(f"writing {name}"):
            self._files.pipe_file(f"{self._root}/{name}", data)

    def remove(self, name: str) -> None:
        with self._asking(f"deleting {name}"), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{name}")

    @contextlib.contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """What a store's own library raises, as this project's errors: none of those libraries share a base class."""
        try:
            yield
        except (ImportError, GeneratorExit):
            raise
        except FileNotFoundError as error:
            raise NotFound(
                f"{self.url}: {doing} failed, for it is not there.",
                next_step="check the address; a bucket must exist before something is put into it",
            ) from error
        except Exception as error:
            kind = type(error).__name__
            if isinstance(error, PermissionError) or re.search("Credential|Auth|Token|Forbidden", kind):
                raise AuthError(
                    f"{self.url}: {doing} was refused ({kind}).",
                    safe="the export that was there is whole",
                    next_step="sign in the way the store's own tools want it, and run the same command again",
                ) from error
            if _SETTINGS.search(f"{kind}: {error}"):
                raise ConfigError(
                    f"{self.url}: {doing} failed by a setting of this machine ({kind}: {error}).",
                    safe="the export that was there is whole",
                    next_step="correct it: an endpoint, a profile, a region, a proxy or a file of certificates, in the "
                    "environment or in the configuration files of the store",
                ) from error
            raise Unavailable(
                f"{self.url}: {doing} failed ({kind}: {error}).", safe="the export that was there is whole"
            ) from error
