"""Planning: Dockerfiles to graphs, against golden files; `SCOW_GOLDEN=1` rewrites them."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.build.dockerfile.instructions import read
from scow.build.dockerfile.lexer import DockerfileError
from scow.build.graph import ConfigOp, CopyOp, Plan, RunOp
from scow.build.stages import Base, PlanRequest, plan
from scow.errors import InvalidArgument
from scow.oci.config import ImageConfig

GOLDEN = Path(__file__).parents[2] / "golden" / "build"

BASES = {
    "busybox": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
    "node:20": {"Env": ["PATH=/usr/bin", "NODE=20"], "WorkingDir": "/srv", "User": "node", "Entrypoint": ["node"]},
    "onbuild": {"OnBuild": ["ARG EXTRA=none", "COPY --from=tools /tool /", "RUN build $EXTRA"], "Labels": {"a": "1"}},
}


def planned(data: bytes, **request: object) -> Plan:
    """The finished plan, every image being known."""
    dockerfile = read(data)
    images: dict[tuple[str, str], Base] = {}
    for _ in range(10):
        made = plan(dockerfile, PlanRequest(platform="linux/amd64", **request), images)  # type: ignore[arg-type]
        if not made.missing:
            return made
        for key in made.missing:
            images[key] = Base(key[0], ImageConfig("amd64", "linux", config=dict(BASES.get(key[0], {}))))
    raise AssertionError("planning does not end")


def described(made: Plan) -> str:
    """A plan as text a reviewer reads."""
    lines = [f"preamble: {text}" for text in made.preamble]
    before: dict[str, object] = {}
    for step in made.steps:
        parent = "" if step.parent is None else f" on {step.parent}"
        lines.append(f"{step.id} (stage {step.stage}, line {step.line}){parent}: {step.shown}")
        if step.note:
            lines.append(f"    {step.note}")
        if not isinstance(step.op, ConfigOp):
            lines.append(f"    {step.op}")
        before = made.steps[step.parent].config if step.parent is not None else {}
        changed = {key: value for key, value in step.config.items() if before.get(key) != value}
        gone = sorted(set(before) - set(step.config))
        if changed or gone:
            lines.append(f"    config: {changed}{' without ' + ', '.join(gone) if gone else ''}")
        if step.created_by:
            lines.append(f"    history: {step.created_by}{'' if step.empty else ' (may add a layer)'}")
    lines += [f"warning: {text}" for text in made.warnings]
    return "\n".join([*lines, f"result: {made.result}", ""])


@pytest.mark.parametrize("source", sorted(GOLDEN.glob("*.Dockerfile")), ids=lambda path: path.stem)
def test_plans_are_as_reviewed(source: Path):
    made = described(planned(source.read_bytes(), build_args={"VERSION": "2", "UNUSED": "x", "HTTP_PROXY": "p"}))
    golden = source.with_suffix(".plan")
    if os.environ.get("SCOW_GOLDEN"):
        golden.write_text(made)
    assert made == golden.read_text()


def test_every_golden_file_has_its_dockerfile():
    assert {path.stem for path in GOLDEN.glob("*.plan")} == {path.stem for path in GOLDEN.glob("*.Dockerfile")} != set()


def test_parents_and_inputs_come_first():
    made = planned(b"FROM busybox AS a\nRUN x\nFROM busybox\nCOPY --from=a /x /\nRUN --mount=from=a,target=/m y\n")
    for step in made.steps:
        assert all(number < step.id for number in (*step.inputs, *([step.parent] if step.parent is not None else [])))
    assert made.steps[made.result].shown.startswith("RUN --mount")


def test_missing_images_are_asked_for_in_one_round():
    dockerfile = read(b"FROM a AS x\nFROM b\nCOPY --from=x / /\nCOPY --from=c / /\nFROM unused\nFROM 1\n")
    assert set(plan(dockerfile, PlanRequest(target="1"), {}).missing) == {("a", ""), ("b", ""), ("c", "")}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"FROM $X", r"base name \(\$X\) should not be blank"),
        (b"FROM busybox\nCOPY --from=0 / /", "invalid from flag value 0: refers to current build block"),
        (b"FROM busybox\nCOPY --from=$A / /", "variable expansion is not supported for --from"),
        (b"FROM busybox\nCOPY a b c", "the destination must be a directory"),
        (b"FROM busybox\nEXPOSE 99999", "invalid containerPort: 99999"),
        (b"FROM busybox\nEXPOSE 80/xyz", "invalid proto: xyz"),
        (b"FROM busybox\nEXPOSE 90-80", "invalid range"),
        (b"FROM busybox\nSTOPSIGNAL NOPE", "invalid signal: NOPE"),
        (b"FROM busybox\nWORKDIR $NOPE", "WORKDIR must not be empty"),
        (b"FROM busybox\nENV a=${b:?needed}", "b: needed"),
        (b"FROM busybox\nENV $nope=1", "ENV names can not be blank"),
        (b"FROM busybox\nCOPY $nope /x", "is empty after its variables are replaced"),
        (b"FROM busybox\nCOPY <<../x /y\n../x\n", "cannot become a file"),
    ],
)
def test_mistakes_that_show_only_in_the_plan(source: bytes, words: str):
    with pytest.raises((DockerfileError, InvalidArgument), match=words):
        planned(source)


def test_a_hostile_environment_cannot_grow_without_end():
    lines = ["FROM busybox", "ENV a=xxxxxxxxxxxxxxxx"] + ["ENV a=$a$a$a$a$a$a$a$a"] * 20
    with pytest.raises(DockerfileError, match="longer than"):
        planned("\n".join(lines).encode())


def test_arguments_come_from_where_the_reference_says():
    source = (
        b"ARG V=1\nARG W\nFROM busybox\nRUN a $V\nARG V\nARG W=own\nARG TARGETARCH\nENV V=env\nRUN b\nCOPY $V$W /x\n"
    )
    first, second = (step.op for step in planned(source, build_args={"W": "given"}).steps if isinstance(step.op, RunOp))
    assert "V=1" not in first.environment
    assert second.environment == ("PATH=/bin", "V=env", "W=given", "TARGETARCH=amd64")
    copied = next(step.op for step in planned(source).steps if isinstance(step.op, CopyOp))
    assert copied.sources == ("envown",)


@given(st.text(alphabet="FROMRUN ab\n$={}\\<\"'[]-,", max_size=80))
def test_any_dockerfile_is_planned_or_refused(text: str):
    data = f"FROM busybox\n{text}".encode()
    try:
        made = planned(data)
    except InvalidArgument:
        return
    assert made.result == max(step.id for step in made.steps if step.stage == made.steps[made.result].stage)


def test_the_config_of_a_hostile_base_is_no_trap():
    config = {
        "Env": [1, "A=b", None], "Labels": ["x"], "ExposedPorts": 7, "Volumes": "v", "OnBuild": {"RUN": 1},
        "Shell": "sh", "WorkingDir": 5, "User": {},
    }  # fmt: skip
    images = {("bad", ""): Base("bad", ImageConfig("amd64", "linux", config=config))}
    text = "FROM bad\nENV c=$A\nLABEL l=m\nEXPOSE 1\nVOLUME /v\nWORKDIR w\nONBUILD RUN y\nRUN x\n"
    made = plan(read(text.encode()), PlanRequest(), images)
    op = made.steps[-1].op
    assert isinstance(op, RunOp)
    assert (op.folder, op.user, op.command[0]) == ("/w", "", "/bin/sh")
    assert made.steps[-1].config["Labels"] == {"l": "m"}
    assert made.steps[-1].config["OnBuild"] == ["RUN y"]
