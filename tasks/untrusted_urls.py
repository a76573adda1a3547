"""POSTs to urls that users gave (webhooks). It guards against SSRF: a request never goes to a
private address, unless the settings allow it.

The host name is resolved here, all its addresses are checked, and the connection goes to a checked
address. If the connection resolved the name again, its owner could give another address the second
time. The certificate is still checked against the name. Every redirect is checked in the same way.
Proxies of the environment are not used: they would resolve the name themselves.
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
#: The first bytes of an answer, which are read and kept.
LONGEST_ANSWER_BYTES = 2000
#: Seconds to read these bytes. A slower answer is cut: its status is known, and only that counts.
READ_SECONDS = 5.0
_KEEP_POST = {307, 308}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RefusedUrlError(RelevoError, ValueError):
    """The url is malformed, or leads to a private address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status of an answer, and the beginning of its body."""

    status: int
    text: str


def post(url: str, body: bytes, headers: Mapping[str, str], *, private: bool = False) -> Answer:
    """POST to `url`, and follow redirects that keep the method (307, 308).

    Raises RefusedUrlError, httpx.HTTPError.
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
    """The trusted certificates, read once a process: that takes 0.1 s."""
    return httpx.create_ssl_context(trust_env=False)


def parse_url(url: str) -> httpx.URL:
    """`url` as an object. Raises RefusedUrlError unless it is http or https, with a host and
    without a user and password.
    """
    try:
        parsed = httpx.URL(url)
        port_fits = parsed.port is None or 0 < parsed.port < 65536  # noqa: PLR2004  the ports of TCP
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
    """The first bytes of an answer, not decompressed: a small body could unpack to gigabytes."""
    read, until = b"", time.monotonic() + READ_SECONDS
    for part in answer.iter_raw():
        read += part
        if len(read) >= LONGEST_ANSWER_BYTES or time.monotonic() > until:
            break
    return read[:LONGEST_ANSWER_BYTES].decode(errors="replace").replace("\0", "")
