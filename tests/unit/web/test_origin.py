"""Web pages are told from programs by what browsers cannot leave out."""

import pytest

from scow.web.origin import refuse_pages
from scow.web.request import Peer, Request
from scow.web.response import Refusal


def request(peer: Peer, **headers: str) -> Request:
    return Request(method="GET", target="/", headers=headers, peer=peer)


LOCAL = Peer(address="127.0.0.1:40000")
FAR = Peer(address="192.0.2.7:40000")


@pytest.mark.parametrize(
    "asked",
    [
        request(LOCAL, host="127.0.0.1:2375"),
        request(LOCAL, host="[::1]:2375"),
        request(LOCAL, host="api.moby.localhost"),
        request(LOCAL),
        request(LOCAL, host="127.0.0.1:2375", origin="http://127.0.0.1:2375"),
        request(FAR, host="engine.example:2376"),
        request(Peer(pid=1, uid=0), host="anything", origin="http://evil.example"),
        request(Peer(address="127.0.0.1:1", common_name="me"), host="engine.example"),
    ],
)
def test_programs(asked: Request) -> None:
    refuse_pages(asked)


@pytest.mark.parametrize(
    "asked",
    [
        request(LOCAL, host="evil.example"),
        request(LOCAL, host="127.0.0.1.evil.example:2375"),
        request(LOCAL, host="["),
        request(Peer(address="::1:40000"), host="evil.example"),
        request(Peer(address="::ffff:127.0.0.1:40000"), host="evil.example"),
        request(LOCAL, host="127.0.0.1:2375", origin="null"),
        request(LOCAL, host="127.0.0.1:2375", origin="http://127.0.0.1:80"),
        request(FAR, host="192.0.2.1:2375", origin="http://evil.example"),
    ],
)
def test_pages(asked: Request) -> None:
    with pytest.raises(Refusal) as caught:
        refuse_pages(asked)
    assert caught.value.status == 403
