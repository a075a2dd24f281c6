"""The settings by which this machine reaches the network: a proxy, a certificate bundle. Which of them is wrong?

requests takes them from the environment at every request, and tells what it cannot use in exceptions of many kinds,
some of which look like a network that is down. A wrong setting stays wrong however long one waits, so it is looked for
here, by its own content. Never shows a proxy's address: it may hold a password.
"""

from __future__ import annotations

import importlib.util
import os
import re
import ssl
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from requests.utils import should_bypass_proxies
from urllib3.exceptions import LocationParseError, MaxRetryError
from urllib3.util import parse_url

from kaggle_manager.errors import AuthError, ConfigError

# In the order in which requests looks.
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
NETWORK_VARIABLES = (*_BUNDLES, *_PROXIES, "no_proxy", "NO_PROXY")
# What http.client says of a proxy that answers CONNECT with a status of its own, and urllib3 of one without TLS.
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (4\d\d)")
_PROXY_WITHOUT_TLS = "appears to only use HTTP and not HTTPS"
_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


def bundle_variable() -> str:
    """The variable that names the certificate bundle in use, or ""."""
    return next((name for name in _BUNDLES if os.environ.get(name)), "")


def proxy_for(endpoint: str) -> tuple[str, str] | None:
    """(where it is set, its address) of the proxy that requests would use for `endpoint`; None without one."""
    if should_bypass_proxies(endpoint, no_proxy=None):
        return None
    proxies = getproxies()
    address = proxies.get("https") or proxies.get("all")
    if not address:
        return None
    variable = next((name for name in _PROXIES if os.environ.get(name) == address), "")
    return variable or "the proxy settings of this machine", address


def wrong_setting(endpoint: str) -> ConfigError | None:
    """The setting that keeps every request to `endpoint` from being sent; None when they can all be used."""
    if (bundle := bundle_variable()) and (problem := _bundle_problem(Path(os.environ[bundle]))):
        return ConfigError(
            f"{bundle} names {os.environ[bundle]}, {problem}.",
            safe="nothing was sent",
            next_step=f"point {bundle} at a file of PEM certificates, or unset it",
        )
    proxy = proxy_for(endpoint)
    if proxy is None:
        return None
    variable, address = proxy
    if problem := _proxy_problem(address):
        return ConfigError(
            f"The proxy from {variable} cannot be used: {problem}.",
            safe="nothing was sent",
            next_step=f"correct {variable} (http://host:port; in a name or password write @ : / # as %40 %3A %2F %23), "
            "or unset it",
        )
    if address.lower().startswith("socks") and importlib.util.find_spec("socks") is None:
        return ConfigError(
            f"The proxy from {variable} is a SOCKS proxy, for which a package is missing here.",
            safe="nothing was sent",
            next_step='run: python -m pip install "requests[socks]"',
        )
    return None


def setting_behind(error: OSError, endpoint: str) -> ConfigError | AuthError | None:
    """The setting of this machine for which a request to `endpoint` failed; None when it was the network.

    Args:
        error: what requests raised.
    """
    if wrong := wrong_setting(endpoint):
        return wrong
    host = urlsplit(endpoint).hostname
    proxy = proxy_for(endpoint)
    source = proxy[0] if proxy else "the proxy settings of this machine"
    said = str(error)
    if proxy and _PROXY_WITHOUT_TLS in said:
        return ConfigError(
            f"The proxy from {source} does not speak TLS itself.",
            safe="nothing was sent",
            next_step=f"write http:// instead of https:// in {source}; what goes through it is encrypted all the same",
        )
    refused = _TUNNEL_REFUSED.search(said)
    if refused and refused[1] == "407":
        return AuthError(
            f"The proxy from {source} asks for a user name and a password, or refused those it was given (407).",
            safe="nothing was sent",
            next_step=f"put them into {source}, as http://user:password@host:port",
        )
    if refused:
        return ConfigError(
            f"The proxy from {source} refuses connections to {host} ({refused[1]}).",
            safe="nothing was sent",
            next_step=f"correct {source}, or have {host} allowed",
        )
    unverified = next((cause for cause in causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if unverified is not None:
        bundle = bundle_variable()
        return ConfigError(
            f"The certificate of {host} could not be verified: {unverified.verify_message}.",
            safe="nothing was sent",
            next_step=f"see whether {bundle} is the bundle for this network, and whether the clock is right"
            if bundle
            else "behind a company proxy, point REQUESTS_CA_BUNDLE at its certificates; else see whether the clock is "
            "right and whether this network asks for a login",
        )
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exceptions inside an exception: requests and urllib3 put them in args and in `reason`."""
    yield error
    inner: Iterable[Any] = (*error.args, getattr(error, "reason", None) if isinstance(error, MaxRetryError) else None)
    for cause in inner:
        if isinstance(cause, BaseException):
            yield from causes(cause)


def _bundle_problem(path: Path) -> str:
    try:
        if path.is_dir():
            return "" if os.access(path, os.R_OK | os.X_OK) else "a folder that cannot be read"
        if not path.exists():
            return "which does not exist"
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return "which holds no certificates in PEM form"
    except (OSError, ValueError) as error:
        return f"which cannot be read ({getattr(error, 'strerror', None) or type(error).__name__})"
    return ""


def _proxy_problem(address: str) -> str:
    try:
        url = parse_url(address if "://" in address else f"http://{address}")
    except (LocationParseError, ValueError):
        return "it is no valid address"
    if url.scheme not in _SCHEMES:
        return f"its scheme is none of {', '.join(_SCHEMES)}"
    if not url.host:
        return "it names no host"
    if url.query or url.fragment or url.path not in (None, "", "/"):
        return "something follows its host and port, such as the rest of a password"
    return ""
