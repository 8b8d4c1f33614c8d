from scow.networks import plan
from scow.networks.apply import batches
from scow.networks.endpoint import Endpoint, EndpointRequest
from scow.networks.plan import HOST, SANDBOX, Leg
from scow.networks.sandbox import preferred

LEG = Leg(
    "veth1234567", "eth0", "scow0", "02:42:ac:11:00:02", 1500, ("172.17.0.2", 16), ("fd00::2", 64), "172.17.0.1", ""
)


def test_attach_is_two_messages() -> None:
    steps = plan.attach(LEG, hairpin=True, isolated=False, way_out=True)
    assert [(step.where, step.describe()) for step in steps] == [
        (
            HOST,
            "ip link add veth1234567 mtu 1500 master scow0 up type veth "
            "peer eth0 address 02:42:ac:11:00:02 netns SANDBOX",
        ),
        (HOST, "bridge link set dev veth1234567 hairpin on isolated off"),
        (SANDBOX, "ip link set eth0 up"),
        (SANDBOX, "ip address replace 172.17.0.2/16 dev eth0"),
        (SANDBOX, "ip address replace fd00::2/64 dev eth0"),
        (SANDBOX, "ip route replace default via 172.17.0.1 dev eth0"),
    ]
    assert [len(batch) for batch in batches(steps)] == [2, 4]


def test_a_new_bridge_gets_its_addresses_in_a_second_message() -> None:
    steps = plan.build_bridge("scow0", "02:00:00:00:00:01", 1500, [("172.17.0.1", 16)], None)
    assert [[step.describe() for step in batch] for batch in batches(steps)] == [
        ["ip link add scow0 address 02:00:00:00:00:01 mtu 1500 up type bridge"],
        ["ip address replace 172.17.0.1/16 dev scow0"],
    ]


def test_a_bridge_that_is_there_is_repaired() -> None:
    present = [("10.0.0.1", 24), ("172.17.0.1", 16)]
    steps = plan.build_bridge("scow0", "02:00:00:00:00:01", 1500, [("172.17.0.1", 16)], present)
    assert [step.describe() for step in steps] == ["ip link set scow0 up", "ip address delete 10.0.0.1/24 dev scow0"]


def endpoint(name: str, priority: int = 0, internal: bool = False) -> Endpoint:
    request = EndpointRequest("c", gw_priority=priority)
    return Endpoint(name, name, name, "c", "c", "c", gateway="10.0.0.1", internal=internal, request=request)


def test_who_provides_the_default_route() -> None:
    a, b, inner = endpoint("a"), endpoint("b"), endpoint("aa", 9, internal=True)
    assert preferred([b, a, inner]) is a
    important = endpoint("z", 1)
    assert preferred([a, important]) is important
    assert preferred([inner]) is None
