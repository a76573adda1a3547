"""A TCP proxy that can stop forwarding without closing a connection, like a pulled cable or a
firewall.

with Proxy(port) as proxy:
    proxy.pull()   # all connections, open and new ones, are silent for ever
    proxy.plug()   # new connections are forwarded
    proxy.cut()    # all connections are closed, open and new ones: the server is down
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

from tests.support import servers
from tests.support.waits import readable

FOREVER = 3600.0


class Proxy:
    """Forwards to a port of this machine."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server((servers.HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._silent: list[socket.socket] = []
        self._pulled = self._cut = self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._wake.send(b"!")
        self._thread.join()
        for one in (self._listener, self._wake, self._woken, *self._peers, *self._silent):
            one.close()

    def pull(self) -> None:
        with self._lock:
            self._pulled = True
            self._silent += self._peers
            self._peers.clear()
        self._wake.send(b"!")

    def plug(self) -> None:
        with self._lock:
            self._pulled = self._cut = False

    def cut(self) -> None:
        with self._lock:
            self._cut = True
        self._wake.send(b"!")

    def _run(self) -> None:
        while not self._closed:
            known = {one.fileno(): one for one in (self._listener, self._woken, *self._peers)}
            ready = readable(*known, within=FOREVER)
            with self._lock:
                for descriptor in ready:
                    self._serve(known[descriptor])

    def _serve(self, one: socket.socket) -> None:
        if one is self._woken:
            one.recv(100)
            self._close_all()
        elif one is self._listener:
            self._accept()
        elif one in self._peers:
            self._forward(one)

    def _close_all(self) -> None:
        if self._cut:
            for one in self._peers:
                one.close()
            self._peers.clear()

    def _accept(self) -> None:
        client = self._listener.accept()[0]
        if self._cut:
            client.close()
            return
        if self._pulled:
            self._silent.append(client)
            return
        try:
            server = socket.create_connection((servers.HOST, self._to))
        except OSError:
            client.close()
            return
        self._peers |= {client: server, server: client}

    def _forward(self, one: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = one.recv(65536)
        if data:
            with contextlib.suppress(OSError):
                self._peers[one].sendall(data)
            return
        peer = self._peers.pop(one)
        self._peers.pop(peer)
        one.close()
        peer.close()
