"""The order things are told in, whatever the order they happen in."""

from typing import Any

from scow.build.dockerfile.instructions import read
from scow.build.graph import Plan
from scow.build.progress import Classic, Done, Failed, Output, Running, Started
from scow.build.stages import Base, PlanRequest, plan
from scow.oci.config import ImageConfig


def planned(text: str) -> Plan:
    images = {("a", ""): Base("a", ImageConfig("amd64", "linux"))}
    return plan(read(text.encode()), PlanRequest(), images)


def test_stages_are_told_one_after_the_other():
    made = planned("FROM a AS one\nRUN x\nFROM a\nCOPY --from=one / /\n")
    said: list[dict[str, Any]] = []
    classic = Classic(made, said.append)
    by_stage = {stage: [step for step in made.steps if step.stage == stage] for stage in (0, 1)}
    classic(Started(by_stage[1][0]))
    classic(Done(by_stage[1][0], "sha256:" + "b" * 64, False))
    assert said == []
    first, run = by_stage[0]
    classic(Started(first))
    classic(Done(first, "sha256:" + "a" * 64, False))
    classic(Started(run))
    classic(Running(run, "0123456789abcdef"))
    classic(Output(run, 1, "é".encode()[:1]))
    classic(Output(run, 1, "é\n".encode()[1:]))
    classic(Done(run, "sha256:" + "c" * 64, False, "0123456789abcdef"))
    copy = by_stage[1][1]
    classic(Started(copy))
    classic(Done(copy, "sha256:" + "d" * 64, True))
    assert "".join(line["stream"] for line in said) == (
        "Step 1/4 : FROM a AS one\n ---> aaaaaaaaaaaa\n"
        "Step 2/4 : RUN x\n ---> Running in 0123456789ab\né\n"
        " ---> Removed intermediate container 0123456789ab\n ---> cccccccccccc\n"
        "Step 3/4 : FROM a\n ---> bbbbbbbbbbbb\n"
        "Step 4/4 : COPY --from=one / /\n ---> Using cache\n ---> dddddddddddd\n"
    )


def test_a_failing_stage_speaks_out_of_turn():
    made = planned("FROM a AS one\nRUN x\nFROM a\nCOPY --from=one / /\nRUN y\n")
    said: list[dict[str, Any]] = []
    classic = Classic(made, said.append)
    step = next(step for step in made.steps if step.stage == 1)
    classic(Started(step))
    assert said == []
    classic(Failed(step))
    assert said[0] == {"stream": "Step 3/5 : FROM a"}


def test_waiting_text_is_bounded(monkeypatch: Any):
    monkeypatch.setattr("scow.build.progress.MAX_WAITING", 1000)
    made = planned("FROM a AS one\nRUN x\nFROM a\nCOPY --from=one / /\nRUN y\n")
    said: list[dict[str, Any]] = []
    classic = Classic(made, said.append)
    step = next(step for step in made.steps if step.stage == 1)
    for number in range(100):
        classic(Output(step, 1, f"{number:099d}\n".encode()))
    classic(Failed(step))
    assert sum(len(line["stream"]) for line in said) <= 1000
    assert said[-1]["stream"].endswith("99\n")
