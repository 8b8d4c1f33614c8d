from scow.api.units import ZERO_TIME
from scow.containers.stats import finish, interfaces


def test_the_first_answer_has_no_before():
    answer = finish({"read": "t1", "cpu_stats": {"a": 1}, "networks": None}, None, (1, 55))
    assert answer["preread"] == ZERO_TIME
    assert answer["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert "networks" not in answer
    assert "num_procs" not in answer


def test_later_answers_have():
    before = {"read": "t0", "cpu_stats": {"a": 0}}
    answer = finish({"read": "t1", "cpu_stats": {"a": 1}, "networks": {}}, before, (1, 40))
    assert (answer["preread"], answer["precpu_stats"]) == ("t0", {"a": 0})
    assert answer["num_procs"] == 0


def test_interfaces_of_a_process():
    found = interfaces(1)
    assert found is None or "lo" not in found
    assert interfaces(2**22 + 1) is None
