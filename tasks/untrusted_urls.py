"""Requests to urls that users gave: never to a private address, unless that is allowed.

The name is resolved here, every address of it is looked at, and the connection goes to an address
that was looked at: were it resolved once more for the connection, its owner could answer
differently the second time. The certificate is still parse_url against the name. Each redirect is
looked at in the same way. No proxy of the environment is asked: it would resolve by itself.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from relevo.errors import RelevoError

CONNECT_SECONDS, SILENCE_SECONDS = 5.0, 20.0
MOST_REDIRECTS = 3
#: So much of an answer is read and kept.
LONGEST_ANSWER_BYTES = 2000
#: Seconds after which the rest of an answer is not waited for: its status is what counts.
READ_SECONDS = 5.0
_KEEP_POST = {307, 308}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RefusedUrlError(RelevoError, ValueError):
    """An url that is not asked: it makes no sense, or leads to a private address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status of an answer, and its beginning."""

    status: int
    text: str


def post(url: str, body: bytes, headers: Mapping[str, str], *, private: bool = False) -> Answer:
    """POST to `url`, follow what asks for the same POST elsewhere. Raises RefusedUrlError,
    httpx.HTTPError.
    """
    timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
    with httpx.Client(
        timeout=timeout, trust_env=False, follow_redirects=False, verify=ssl_context()
    ) as client:
        for _ in range(MOST_REDIRECTS + 1):
            request = _request(client, url, body, headers, private)
            answer = client.send(request, stream=True)
            try:
                if answer.status_code not in _KEEP_POST or "location" not in answer.headers:
                    return Answer(answer.status_code, _read_beginning(answer))
            finally:
                answer.close()
            url = str(httpx.URL(url).join(answer.headers["location"]))
    raise RefusedUrlError(f"expected at most {MOST_REDIRECTS} redirects")


@functools.cache
def ssl_context() -> ssl.SSLContext:
    """Whose ssl_context are believed. Read once a process: it takes longer than many a request
    (0.1 s, measured).
    """
    return httpx.create_ssl_context(trust_env=False)


def parse_url(url: str) -> httpx.URL:
    """`url`, if it is one that could be asked: http or https, a host, no user and password."""
    try:
        parsed = httpx.URL(url)
        port_fits = parsed.port is None or 0 < parsed.port < 65536  # noqa: PLR2004 - what a port is
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        raise RefusedUrlError(f"expected an url, got {url!r:.80}") from error
    if (
        parsed.scheme not in {"http", "https"}
        or not parsed.host
        or parsed.userinfo
        or not port_fits
    ):
        raise RefusedUrlError(
            f"expected an url that begins with http:// or https:// and a host, got {url!r:.80}"
        )
    return parsed


def is_public(address: str) -> bool:
    """Whether this is an address of the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in _NAT64:
            inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inside:
            return is_public(str(inside))
    return ip.is_global and not ip.is_multicast


def _request(
    client: httpx.Client, url: str, body: bytes, headers: Mapping[str, str], private: bool
) -> httpx.Request:
    parsed = parse_url(url)
    address = _resolve(parsed, private)
    own = {"Accept-Encoding": "identity", "Host": parsed.netloc.decode()}
    return client.build_request(
        "POST",
        parsed.copy_with(host=address),
        content=body,
        headers={**headers, **own},
        extensions={"sni_hostname": parsed.host},
    )


def _resolve(url: httpx.URL, private: bool) -> str:
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    try:
        found = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise httpx.ConnectError(f"{url.host} can't be resolved: {error}") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not private and not all(is_public(address) for address in addresses):
        raise RefusedUrlError(
            f"{url.host} is a private address, and webhooks don't go there (APP_PRIVATE_WEBHOOKS)"
        )
    return addresses[0]


def _read_beginning(answer: httpx.Response) -> str:
    """So much as is kept, as it came: unpacked, a thousandth of it could fill the memory."""
    read, until = b"", time.monotonic() + READ_SECONDS
    for part in answer.iter_raw():
        read += part
        if len(read) >= LONGEST_ANSWER_BYTES or time.monotonic() > until:
            break
    return read[:LONGEST_ANSWER_BYTES].decode(errors="replace").replace("\0", "")
