"""A file from the network: taken up where a download was cut, verified, and under its own name only when it is whole.

What has come so far stands in ``NAME.part``. Libraries such as pooch begin anew each time (its downloader knows no ranges), and a SAM has
up to 2.6 GB; so this asks for the rest with a Range header, which a server may ignore. Proxies are those of the environment.
"""

import errno
import http.client
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samsemi import console
from samsemi.errors import CheckpointError, RefusedError
from samsemi.inputs import hash_file
from samsemi.offline import need_network
from samsemi.outputs import locked_output

CHUNK = 2**20
MEGABYTE = 10**6
TIMEOUT = 60.0
"""Seconds in which a server must say something."""
LARGEST = 2**35
"""Bytes of a file of which neither table nor server says the size."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
GO_ON = "the same command goes on where it stopped"
ANOTHER = "does a proxy or a login page answer? What had come is kept; or get the file by other means"


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https, and from http to http; nowhere else."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        was, becomes = (urllib.parse.urlsplit(address).scheme for address in (req.full_url, newurl))
        if becomes != "https" and (was, becomes) != ("http", "http"):
            raise not_followed(req.full_url, newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def not_followed(address: str, target: str) -> RefusedError:
    return RefusedError(f"{address} redirects elsewhere: {target:.200}", "only https is followed; does a proxy or a login page answer?")


def download(address: str, path: Path, sha256: str, size: int | None, break_lock: bool = False) -> None:
    """Write the file at an address, whose SHA-256 must be this one; RefusedError without network or room, CheckpointError where the
    server does not have it, stops before the end, or has another file."""
    need_network(f"fetching {path.name}", "put the file there by other means, then run `samsemi weights verify FILE`")
    part = path.with_name(path.name + ".part")
    for place in (path, part):
        if place.exists() and not place.is_file():
            raise RefusedError(f"{place} is in the way: no plain file", "move it away, or give another --dir")
    if part.is_symlink():
        raise RefusedError(f"{part} is in the way: a link", "move it away, or give another --dir")
    with locked_output(path, break_lock):
        if not (size and part.is_file() and part.stat().st_size == size):
            with named_failures(address, part):
                receive(address, part, size)
        found = hash_file(part)
        if found != sha256:
            part.unlink()
            raise CheckpointError(
                f"{address}: what came has the SHA-256 {found}, not {sha256}; it was removed",
                "run it again; where it stays so, the file at that address is another one than it was: do not use it",
            )
        os.replace(part, path)


def receive(address: str, part: Path, size: int | None) -> None:
    """Append to ``part`` what is missing, or write it anew where the server gives the whole; what is kept stays where the server offers
    another size than the file has."""
    start = part.stat().st_size if part.is_file() else 0
    with open_address(address, start) as response:
        if response is None:  # nothing is left, or what was kept is longer than the file: its hash tells
            return
        start = start if response.status == http.client.PARTIAL_CONTENT else 0
        offered = None if response.length is None else start + response.length  # None: not said, or no number
        if size and offered and (offered > size or (start == 0 and offered != size)):
            raise CheckpointError(f"{address}: {offered} bytes are offered, the file has {size}", ANOTHER)
        total = size or offered or 0
        need_room(part, total - start)
        done = start + copy(response, part, start, total)
    if done < total:
        raise CheckpointError(f"{address}: cut off after {done} of {total} bytes", GO_ON)


@contextmanager
def open_address(address: str, start: int) -> Iterator[Any]:
    """The server's answer to a request for what comes after ``start`` bytes; None where it says that nothing does."""
    headers = {"User-Agent": "samsemi", **({"Range": f"bytes={start}-"} if start else {})}
    opener = urllib.request.build_opener(SafeRedirects)
    try:
        response = opener.open(urllib.request.Request(address, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        yield None
        return
    with response:
        yield response


def copy(response: Any, part: Path, start: int, total: int) -> int:
    """Write what comes behind the first ``start`` bytes; how much it was."""
    received = shown = 0
    megabytes = [round(count / MEGABYTE) for count in (total, start)]
    with open(part, "ab" if start else "wb") as file, console.progress("download", megabytes[0], "MB", megabytes[1]) as advance:
        while start + received <= (total or LARGEST) and (chunk := response.read1(CHUNK)):  # what is too long, its hash refuses
            file.write(chunk)
            received += len(chunk)
            advance((start + received) // MEGABYTE - (start + shown) // MEGABYTE)
            shown = received
        file.flush()
        os.fsync(file.fileno())
    return received


def need_room(part: Path, size: int) -> None:
    """RefusedError where the rest of a file has no room."""
    free = shutil.disk_usage(part.parent).free
    if size > free:
        reason = f"{part}: {size / MEGABYTE:.0f} MB are still to come, {free / MEGABYTE:.0f} MB are free"
        raise RefusedError(reason, f"make room: {GO_ON}; or give another --dir")


@contextmanager
def named_failures(address: str, part: Path) -> Iterator[None]:
    """What the network or the disk refuses, as errors with the address or the file."""
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code < 400:  # a redirection that urllib itself does not follow
            raise not_followed(address, error.reason) from None
        hint = "the server does not have it now: try later, or get the file by other means"
        raise CheckpointError(f"{address}: {error.code} {error.reason}", hint) from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:  # ValueError: no address
        reason = getattr(error, "reason", None) or error
        raise CheckpointError(f"{address}: {reason!s:.200}", f"check the network and the proxies in the environment; {GO_ON}") from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise RefusedError(f"{part}: {os.strerror(error.errno)}", f"make room: {GO_ON}; or give another --dir") from None
        raise
