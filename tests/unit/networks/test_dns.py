import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scow.networks import dns
from scow.networks.dns import AAAA, ANY, PTR, A, Malformed, Zone, answer, decide, malformed_answer, parse

HEADER = struct.pack("!HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0)


def question(name: str, kind: int = A) -> bytes:
    return HEADER + dns.encode_name(name) + struct.pack("!HH", kind, 1)


def zone() -> Zone:
    found = Zone("shop")
    found.add("e1", ("web", "front", "0123456789ab"), "10.0.0.2", "fd00::2")
    found.add("e2", ("db", "front"), "10.0.0.3", "")
    return found


def test_parse() -> None:
    query = parse(question("Web.Example"))
    assert (query.id, query.name, query.kind, query.udp_size, query.opcode) == (0x1234, "web.example", A, 512, 0)
    edns = question("web")[:10] + b"\0\1" + question("web")[12:] + b"\0" + struct.pack("!HHIH", 41, 1400, 0, 0)
    assert parse(edns).udp_size == 1400


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEADER,
        HEADER[:2] + b"\x81\x00" + HEADER[4:] + question("x")[12:],  # an answer
        HEADER[:4] + b"\0\2" + HEADER[6:] + question("x")[12:],  # two questions
        HEADER + b"\xc0\x0c" + b"\0\1\0\1",  # a name that points at itself
        HEADER + b"\xc0\xff" + b"\0\1\0\1",  # forwards
        HEADER + b"\x3fab",  # torn
        HEADER + b"\x40a\0" + b"\0\1\0\1",  # a reserved label type
        HEADER + b"\x3f" + b"a" * 63 + (b"\x3f" + b"a" * 63) * 4 + b"\0" + b"\0\1\0\1",  # too long
        question("x")[:-2],
        question("x")[:-2] + b"\0\3",  # class CHAOS
    ],
)
def test_hostile_queries(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse(data)


@given(st.binary(max_size=600))
@example(HEADER + b"\xc0\x0c\0\1\0\1")
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        query = parse(data)
    except Malformed:
        refused = malformed_answer(data)
        assert refused is None or refused[:2] == data[:2]
    else:
        out = answer(query, [(A, b"\1\2\3\4")], limit=512)
        assert out[:2] == data[:2]


def test_names() -> None:
    zones = [zone()]
    for name in ("web", "WEB", "web.shop", "0123456789ab"):
        assert decide(parse(question(name)), zones, {}) == [(A, bytes([10, 0, 0, 2]))]
    assert sorted(decide(parse(question("front")), zones, {}) or []) == [(A, bytes([10, 0, 0, n])) for n in (2, 3)]
    assert decide(parse(question("db", AAAA)), zones, {}) == [], "known, without such an address"
    assert len(decide(parse(question("web", ANY)), zones, {}) or []) == 2
    for name in ("example.org", "web.other", "shop", ""):
        assert decide(parse(question(name)), zones, {}) is None
    assert decide(parse(question("alias")), zones, {"alias": ("10.9.9.9", "")}) == [(A, bytes([10, 9, 9, 9]))]


def test_reverse_names() -> None:
    zones = [zone()]
    expected = [(PTR, b"\3web\4shop\0")]
    assert decide(parse(question("2.0.0.10.in-addr.arpa", PTR)), zones, {}) == expected
    six = ".".join(reversed("fd00" + "0" * 27 + "2")) + ".ip6.arpa"
    assert decide(parse(question(six, PTR)), zones, {}) == expected
    for name in ("9.9.9.9.in-addr.arpa", "x.in-addr.arpa", "1.2.ip6.arpa", "web"):
        assert decide(parse(question(name, PTR)), zones, {}) is None


def test_removed_endpoints_are_forgotten() -> None:
    found = zone()
    found.remove("e1")
    assert found.find("web") is None
    assert found.find("front") == [("10.0.0.3", "")]
    assert decide(parse(question("2.0.0.10.in-addr.arpa", PTR)), [found], {}) is None
    found.remove("e2")
    assert not found.names
    assert not found.addresses


def test_answers_are_cut_at_the_limit() -> None:
    records = [(A, bytes([10, 0, 0, n])) for n in range(100)]
    out = answer(parse(question("many")), records, limit=512)
    assert len(out) <= 512
    assert out[2] & 2, "truncated"
    whole = answer(parse(question("many")), records)
    assert int.from_bytes(whole[6:8], "big") == 100
    assert not whole[2] & 2
