"""Downloads from a server on the loopback: whole, cut and taken up, wrong, refused."""

import hashlib
import os
import resource
import shutil
from collections import namedtuple
from pathlib import Path
from urllib.request import Request

import pytest
from builders import files_in
from file_server import CONTENT, serve

from samsemi.errors import CheckpointError, RefusedError
from samsemi.weights.download import SafeRedirects, download

SHA256 = hashlib.sha256(CONTENT).hexdigest()
USAGE = namedtuple("USAGE", "total used free")


@pytest.fixture
def server():
    with serve() as server:
        yield server


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "cache" / "weights.pth"


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_file_comes_whole_and_nothing_else_stays(server, path, size):
    download(server.address, path, SHA256, size)
    assert path.read_bytes() == CONTENT and files_in(path.parent) == {"weights.pth"} and server.asked == [None]


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_download_that_was_cut_goes_on_where_it_stopped(server, path, ranges):
    server.cut = 200_000
    with pytest.raises(CheckpointError, match="cut off after 200000 of 512000 bytes") as caught:
        download(server.address, path, SHA256, len(CONTENT))
    assert "goes on" in caught.value.hint
    assert files_in(path.parent) == {"weights.pth.part"} and not path.exists()
    server.cut, server.ranges = None, ranges
    download(server.address, path, SHA256, len(CONTENT))
    assert path.read_bytes() == CONTENT and files_in(path.parent) == {"weights.pth"}
    assert server.asked == [None, "bytes=200000-"]


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_part_that_is_whole_is_verified_and_not_fetched_again(server, path, size):
    path.parent.mkdir()
    path.with_name("weights.pth.part").write_bytes(CONTENT)
    download(server.address, path, SHA256, size)
    assert path.read_bytes() == CONTENT
    assert server.asked == ([] if size else [f"bytes={len(CONTENT)}-"])


@pytest.mark.parametrize("kept", [b"", b"another file" * 1000, b"x" * (len(CONTENT) + 1)], ids=["none", "another", "too long"])
def test_wrong_checksum_leaves_nothing_and_the_next_download_is_whole(server, path, kept):
    path.parent.mkdir()
    if kept:
        path.with_name("weights.pth.part").write_bytes(kept)
    sha256 = SHA256 if kept else "0" * 64
    with pytest.raises(CheckpointError, match=f"has the SHA-256 [0-9a-f]{{64}}, not {sha256}; it was removed"):
        download(server.address, path, sha256, len(CONTENT))
    assert not files_in(path.parent)
    download(server.address, path, SHA256, len(CONTENT))
    assert path.read_bytes() == CONTENT


def test_old_file_stays_until_the_new_one_is_whole(server, path):
    path.parent.mkdir()
    path.write_bytes(b"old")
    server.cut = 1000
    with pytest.raises(CheckpointError):
        download(server.address, path, SHA256, None)
    assert path.read_bytes() == b"old"
    server.cut = None
    download(server.address, path, SHA256, None)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 500])
def test_server_without_the_file_is_an_error_that_names_address_and_status(server, path, status):
    server.status = status
    with pytest.raises(CheckpointError, match=f"{server.address}: {status} "):
        download(server.address, path, SHA256, None)
    assert not files_in(path.parent)


@pytest.mark.parametrize("length", ["abc", "512000, 512000", "-5", "9" * 5000])
def test_length_that_is_none_is_taken_for_not_said(server, path, length):
    server.length = length
    download(server.address, path, SHA256, len(CONTENT))
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_body_that_never_ends_is_left(server, path, size, monkeypatch):
    monkeypatch.setattr("samsemi.weights.download.LARGEST", 2 * len(CONTENT))
    server.length, server.more = "unknown", 200
    with pytest.raises(CheckpointError, match="it was removed"):
        download(server.address, path, SHA256, size)
    assert server.sent < 100 and not files_in(path.parent)


def test_page_of_another_size_leaves_what_had_come(server, path):
    path.parent.mkdir()
    path.with_name("weights.pth.part").write_bytes(CONTENT[:400_000])
    server.content, server.ranges = b"please log in".ljust(400_001, b"."), False
    with pytest.raises(CheckpointError, match="400001 bytes are offered, the file has 512000") as caught:
        download(server.address, path, SHA256, len(CONTENT))
    assert "login page" in caught.value.hint and path.with_name("weights.pth.part").read_bytes() == CONTENT[:400_000]


def test_what_came_before_the_connection_broke_is_kept(server, path):
    server.cut, server.length = 3000, "unknown"
    with pytest.raises(CheckpointError, match="cut off after 3000"):
        download(server.address, path, SHA256, len(CONTENT))
    assert path.with_name("weights.pth.part").stat().st_size == 3000


def test_redirection_to_no_address_is_an_error(server, path):
    server.redirect = "https:"
    with pytest.raises(CheckpointError, match=server.address):
        download(server.address, path, SHA256, None)
    with pytest.raises(CheckpointError, match="Invalid IPv6 URL"):
        download("http://[::1/x", path, SHA256, None)
    assert not files_in(path.parent)


def test_server_that_refuses_a_range_nobody_asked_for_is_an_error(server, path):
    server.status = 416
    with pytest.raises(CheckpointError, match="416"):
        download(server.address, path, SHA256, None)


def test_nothing_is_written_through_a_link(server, path):
    path.parent.mkdir()
    theirs = path.with_name("theirs")
    theirs.write_bytes(b"years of work")
    path.with_name("weights.pth.part").symlink_to(theirs)
    with pytest.raises(RefusedError, match=r"weights\.pth\.part is in the way: a link"):
        download(server.address, path, SHA256, len(CONTENT))
    assert theirs.read_bytes() == b"years of work" and not server.asked


def test_server_that_is_not_there_is_an_error_that_names_the_reason(path):
    with serve() as gone:
        pass
    with pytest.raises(CheckpointError, match=r"Connection refused") as caught:
        download(gone.address, path, SHA256, None)
    assert "proxies" in caught.value.hint


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/w.pth", "file:///etc/passwd", "data:,x"])
def test_redirection_off_http_is_refused(server, path, target):
    server.redirect = target
    with pytest.raises(RefusedError, match=f"redirects elsewhere: .*{target}"):
        download(server.address, path, SHA256, None)
    assert not files_in(path.parent)


def test_redirection_to_http_is_followed_from_http_alone(server, path):
    with serve() as other:
        server.redirect = other.address
        download(server.address, path, SHA256, None)
        assert path.read_bytes() == CONTENT and other.asked == [None]
        with pytest.raises(RefusedError, match="redirects elsewhere"):
            SafeRedirects().redirect_request(Request("https://a.example/w"), None, 302, "", {}, other.address)


def test_too_little_room_is_refused_before_anything_is_written(server, path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: USAGE(0, 0, 400_000))
    with pytest.raises(RefusedError, match="1 MB are still to come, 0 MB are free") as caught:
        download(server.address, path, SHA256, None)
    assert "make room" in caught.value.hint and "--dir" in caught.value.hint and not files_in(path.parent)


def test_disk_that_fills_keeps_what_came_and_the_rest_follows(server, path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(RefusedError, match=r"weights\.pth\.part: ") as caught:
            download(server.address, path, SHA256, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "make room: the same command goes on" in caught.value.hint
    assert path.with_name("weights.pth.part").stat().st_size == 100_000
    download(server.address, path, SHA256, None)
    assert path.read_bytes() == CONTENT and server.asked == [None, "bytes=100000-"]


@pytest.mark.parametrize("name", ["weights.pth", "weights.pth.part"])
def test_what_is_no_file_is_neither_waited_for_nor_replaced(server, path, name):
    path.parent.mkdir()
    os.mkfifo(path.with_name(name))
    with pytest.raises(RefusedError, match=f"{name} is in the way"):
        download(server.address, path, SHA256, None)
    assert path.with_name(name).is_fifo() and not server.asked


def test_nothing_is_asked_where_the_network_is_forbidden(server, path, monkeypatch):
    monkeypatch.setenv("SAMSEMI_OFFLINE", "1")
    with pytest.raises(RefusedError, match=r"fetching weights\.pth needs the network, which SAMSEMI_OFFLINE forbids"):
        download(server.address, path, SHA256, None)
    assert not server.asked and not path.parent.exists()


def test_proxy_of_the_environment_is_used(server, path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    download("http://weights.example/models/weights.pth", path, SHA256, None)
    assert path.read_bytes() == CONTENT and server.asked == [None]


def test_progress_counts_megabytes_and_says_how_long_it_takes(server, path, shown, capsys, monkeypatch):
    monkeypatch.setattr("samsemi.console.PLAIN_SECONDS", 0.0)
    server.content = CONTENT * 8
    download(server.address, path, hashlib.sha256(server.content).hexdigest(), None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("download: 4/4 MB, ") and lines[-1].endswith(" left")
