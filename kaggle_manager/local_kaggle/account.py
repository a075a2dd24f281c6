"""The one account of the local Kaggle, and what its secrets sign: requests and links.

The secrets are made at the first start and live in `account.json`, readable by its owner alone. They are never logged.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

from kaggle_manager.local_kaggle import disk


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())


@dataclass(frozen=True)
class Account:
    """Username, access token (Bearer), legacy key (Basic), and the key that signs links."""

    username: str
    token: str = field(repr=False)
    key: str = field(repr=False)
    signing_key: str = field(repr=False)

    @classmethod
    def of(cls, root: Path) -> Account:
        """The account of the server in `root`, made at the first call."""
        path = root / "account.json"
        if stored := disk.read_json(path):
            return cls(**stored)
        made = cls("local", f"KGAT_{secrets.token_hex(16)}", secrets.token_hex(16), secrets.token_hex(32))
        disk.write_json(path, asdict(made), mode=0o600)
        return made

    def accepts(self, authorization: str) -> bool:
        """Whether an `Authorization` header is this account's: `Bearer token` or `Basic base64(username:key)`."""
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return _same(credentials, self.token)
        if scheme.lower() == "basic":
            try:
                decoded = base64.b64decode(credentials, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                return False
            return _same(decoded, f"{self.username}:{self.key}")
        return False

    def owns_token(self, token: str) -> bool:
        return _same(token, self.token)

    def link(self, path: str, expires: float) -> str:
        """`path` (decoded, starts with /) as a link that needs no credentials until `expires` (Unix seconds)."""
        stamp = str(int(expires))
        return f"{quote(path)}?expires={stamp}&signature={self._signature(path, stamp)}"

    def signed(self, path: str, expires: str, signature: str, now: float) -> bool:
        """Whether `link` made this link and it has not expired."""
        return _same(signature, self._signature(path, expires)) and now < int(expires)

    def _signature(self, path: str, stamp: str) -> str:
        return hmac.new(self.signing_key.encode(), f"{stamp} {path}".encode(), hashlib.sha256).hexdigest()
