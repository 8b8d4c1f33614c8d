"""Address flags of ``network create``."""

import pytest

from scow.cli.subnets import pools
from scow.errors import InvalidArgument


def test_everything_joins_its_subnet() -> None:
    assert pools(
        ["10.1.0.0/16", "2001:db8::/64"], ["10.1.2.0/24"], ["2001:db8::1", "10.1.0.254"], {"a": "10.1.0.5"}
    ) == [
        {
            "Subnet": "10.1.0.0/16",
            "IPRange": "10.1.2.0/24",
            "Gateway": "10.1.0.254",
            "AuxiliaryAddresses": {"a": "10.1.0.5"},
        },
        {"Subnet": "2001:db8::/64", "Gateway": "2001:db8::1"},
    ]
    assert pools([], [], [], {}) == []


@pytest.mark.parametrize(
    ("subnets", "ranges", "gateways", "reserved", "message"),
    [
        ([], ["10.0.0.0/24"], [], {}, "must have a corresponding subnet"),
        (["10.0.0.0/8", "10.1.0.0/16"], [], [], {}, "overlapping"),
        (["10.0.0.0/8"], ["11.0.0.0/16"], [], {}, "no matching subnet for range"),
        (["10.0.0.0/8"], [], ["11.0.0.1"], {}, "no matching subnet for gateway"),
        (["10.0.0.0/8"], [], [], {"a": "11.0.0.1"}, "no matching subnet for aux-address"),
        (["10.0.0.0/8"], [], ["10.0.0.1", "10.0.0.2"], {}, "cannot configure multiple gateways"),
        (["10.0.0.0"], ["10.0.0.0/24"], [], {}, "invalid CIDR"),
        (["10.0.0.0/33"], ["10.0.0.0/24"], [], {}, "invalid CIDR"),
        (["x/8"], ["10.0.0.0/24"], [], {}, "invalid IP"),
    ],
)
def test_what_does_not_fit_is_said(
    subnets: list[str], ranges: list[str], gateways: list[str], reserved: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        pools(subnets, ranges, gateways, reserved)
