"""No network unless asked, and none at all with SAMSEMI_OFFLINE=1."""

import socket

import pytest

from samsemi import offline
from samsemi.errors import RefusedError, UsageError
from samsemi.segmenters import networks
from samsemi.segmenters.networks import build_network

CHANNELS = (16, 12, 8, 8, 8)
ONLINE = (
    "tu-hf-hub:timm/resnet18.a1_in1k",
    "tu-hf_hub:timm/resnet18",
    "hf-hub:smp-hub/x",
    "tu-local-dir:/tmp/x",
    "tu-timm/resnet18",
    "a b",
)


@pytest.mark.parametrize("encoder", ONLINE)
def test_encoder_that_is_no_plain_name_is_refused_before_it_is_looked_for(monkeypatch, encoder):
    monkeypatch.setattr(networks.smp, "create_model", lambda *_, **__: pytest.fail("was looked for"))
    with pytest.raises(UsageError, match="no name of an encoder"):
        build_network(f"unetplusplus:{encoder}", 2, CHANNELS)


@pytest.mark.parametrize("value", ["1", "yes"])
def test_download_is_refused_where_the_network_is_forbidden(monkeypatch, value):
    monkeypatch.setattr(networks.smp, "create_model", lambda *_, **__: pytest.fail("was built"))
    monkeypatch.setenv("SAMSEMI_OFFLINE", value)
    with pytest.raises(RefusedError, match="--encoder-weights imagenet needs the network, which SAMSEMI_OFFLINE forbids"):
        build_network("unetplusplus:resnet18", 2, CHANNELS, "imagenet")


def test_random_weights_need_no_network(monkeypatch):
    monkeypatch.setenv("SAMSEMI_OFFLINE", "1")
    assert build_network("unetplusplus:tu-lcnet_035", 2, CHANNELS)


@pytest.mark.parametrize("value", ["", "0"])
def test_network_is_not_forbidden_by_default(monkeypatch, value):
    monkeypatch.setenv("SAMSEMI_OFFLINE", value)
    offline.need_network("--encoder-weights imagenet", "hint")


def test_connections_of_other_code_are_refused_too(monkeypatch):
    monkeypatch.setenv("SAMSEMI_OFFLINE", "1")
    offline.forbid_network()
    with pytest.raises(RefusedError, match=r"a connection to example\.org needs the network"):
        socket.getaddrinfo("example.org", 443)
    with socket.socket() as own, pytest.raises(RefusedError, match=r"192\.0\.2\.1"):
        own.settimeout(0.01)
        type(own).__mro__[1].connect(own, ("192.0.2.1", 443))
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
    monkeypatch.setenv("SAMSEMI_OFFLINE", "0")
    offline.refuse_connection("socket.getaddrinfo", ("example.org",))
