"""No network unless asked, and none at all with SAMSEMI_OFFLINE=1."""

import os
import sys

from samsemi.errors import RefusedError

VARIABLE = "SAMSEMI_OFFLINE"
HERE = ("127.0.0.1", "::1", "localhost")


def is_offline() -> bool:
    return os.environ.get(VARIABLE, "0") not in ("", "0")


def need_network(what: str, hint: str) -> None:
    """RefusedError where the network is forbidden."""
    if is_offline():
        raise RefusedError(f"{what} needs the network, which {VARIABLE} forbids", hint)


def forbid_network() -> None:
    """Refuse every connection to other machines from now on, of code of the user's own and of libraries, too, where it is forbidden."""
    if is_offline():
        sys.addaudithook(refuse_connection)


def refuse_connection(event: str, values: tuple) -> None:
    """An audit hook: of ``socket.connect`` (socket, address) and ``socket.getaddrinfo`` (host, ...)."""
    if event not in ("socket.connect", "socket.getaddrinfo") or not is_offline():
        return
    host = values[1][0] if event == "socket.connect" and isinstance(values[1], tuple) else values[0]
    if isinstance(host, str) and host not in HERE:
        need_network(f"a connection to {host}", "give files that are on this machine")
