"""Instructions → the graph of steps. Pure: no file, no clock, no network.

Only what the target needs is planned: stages nothing refers to are left out. Configs of base images are given by the
caller; where one is missing, the plan says so (`Plan.missing`), the caller resolves it and plans again. Triggers
(ONBUILD) of a base image may name further images, hence the loop.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from scow.build.dockerfile import expand
from scow.build.dockerfile.instructions import (
    Copy,
    Dockerfile,
    Instruction,
    Label,
    Run,
    Setting,
    Stage,
    read_trigger,
)
from scow.build.dockerfile.lexer import DockerfileError, parse_heredoc
from scow.build.graph import (
    CONTEXT,
    ConfigOp,
    CopyOp,
    FolderOp,
    ImageOp,
    Op,
    Plan,
    PlannedMount,
    RunOp,
    ScratchOp,
    StageOp,
    Step,
)
from scow.build.state import PROXIES, StageState, expanded_mounts, members, texts
from scow.errors import InvalidArgument
from scow.oci.config import ImageConfig
from scow.oci.platform import Platform, host_platform

#: Steps one build may have, triggers included.
MAX_STEPS = 5_000


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What the caller wants of a Dockerfile; `platform` is the target's, "" for this machine's."""

    target: str = ""
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Base:
    """What planning needs to know of a resolved image."""

    reference: str
    config: ImageConfig


def plan(dockerfile: Dockerfile, request: PlanRequest, images: Mapping[tuple[str, str], Base]) -> Plan:
    """The graph for the target stage.

    Args:
        images: base images resolved so far, by (reference as in the Dockerfile, platform).

    Raises:
        DockerfileError: an expansion fails, or a stage refers to itself.
        InvalidArgument: the target does not exist, or the platform is malformed.
    """
    return _Planner(dockerfile, request, images).run()


class _Planner:
    def __init__(self, dockerfile: Dockerfile, request: PlanRequest, images: Mapping[tuple[str, str], Base]) -> None:
        self.dockerfile = dockerfile
        self.request = request
        self.images = images
        self.steps: list[Step] = []
        self.missing: list[tuple[str, str]] = []
        self.used: set[str] = set()
        self.finished: dict[int, tuple[Step, StageState]] = {}  # stage index → its last step
        self.planning: list[int] = []
        self.image_steps: dict[tuple[str, str], int] = {}
        target = Platform.parse(request.platform) if request.platform else host_platform()
        self.globals = self._global_arguments(platform_arguments(target, host_platform(), request.target))

    def run(self) -> Plan:
        target = self._target()
        last = self._stage(target)
        if last and self.request.labels:
            self._labels(target)
        steps = tuple(self.steps)
        result = self.finished[target.index][0].id if target.index in self.finished else -1
        return Plan(
            steps,
            result,
            tuple(dict.fromkeys(self.missing)),
            tuple(argument.text for argument in self.dockerfile.globals),
            self._warnings(),
            _epoch(self.request.build_args.get("SOURCE_DATE_EPOCH")),
        )

    # ---- stages --------------------------------------------------------------------------------------

    def _target(self) -> Stage:
        wanted = self.request.target
        stages = self.dockerfile.stages
        if not wanted:
            return stages[-1]
        for stage in stages:
            if stage.name and stage.name == wanted.lower():
                return stage
        if wanted.isascii() and wanted.isdigit() and int(wanted[:9]) < len(stages):
            return stages[int(wanted[:9])]
        raise InvalidArgument(f"target stage {wanted} could not be found")

    def _global_arguments(self, known: dict[str, str]) -> dict[str, str]:
        """Values of the ARGs before the first FROM, over the predefined platform arguments."""
        for argument in self.dockerfile.globals:
            for name, default in argument.pairs:
                given = self.request.build_args.get(name)
                if given is not None:
                    self.used.add(name)
                    known[name] = given
                elif default is not None:
                    known[name] = self._global_word(default, known, argument.line)
        return known

    def _global_word(self, text: str, known: Mapping[str, str], line: int) -> str:
        try:
            return expand.word(text, known, self.dockerfile.escape)
        except expand.ExpansionError as error:
            raise DockerfileError(line, f'failed to process "{text[:200]}": {error}') from None

    def _stage(self, stage: Stage) -> Step | None:
        """Plan `stage` and what it needs; None when an image is missing."""
        if stage.index in self.finished:
            return self.finished[stage.index][0]
        if stage.index in self.planning:
            raise DockerfileError(stage.start.line, f"circular dependency detected on stage: {stage.name}")
        self.planning.append(stage.index)
        started = self._start(stage)
        if not started:
            # Look for further images all the same, so that one round resolves as many as possible.
            for instruction in stage.body:
                self._origins(stage, instruction)
            self.planning.pop()
            return None
        state, triggers = started
        triggered = [read_trigger(trigger, stage.start.line) for trigger in triggers]
        note = f"# Executing {len(triggered)} build trigger{'s' if len(triggered) != 1 else ''}" if triggered else ""
        complete = True
        for instruction in (*triggered, *stage.body):
            complete = self._instruction(stage, state, instruction, note) and complete
            note = ""
        self.used |= state.used
        self.planning.pop()
        last = self._last(stage)
        self.finished[stage.index] = (last, state)
        return last if complete else None

    def _last(self, stage: Stage) -> Step:
        return next(step for step in reversed(self.steps) if step.stage == stage.index)

    def _start(self, stage: Stage) -> tuple[StageState, list[str]] | None:
        """FROM: the stage's first step, its state, and the triggers that come with the base."""
        start = stage.start
        base = self._global_word(start.base, self.globals, start.line)
        platform = self._global_word(start.platform, self.globals, start.line)
        if not base:
            raise DockerfileError(start.line, f"base name ({start.base}) should not be blank")
        if platform:
            platform = str(Platform.parse(platform))
        earlier = self._named(base.lower(), stage.index)
        if earlier is not None:
            return self._start_from_stage(stage, earlier)
        if base == "scratch":
            state = self._state({}, "")
            self._add(ScratchOp(), None, state, "", stage, start)
            return state, []
        return self._start_from_image(stage, base, platform or self.request.platform)

    def _start_from_stage(self, stage: Stage, earlier: Stage) -> tuple[StageState, list[str]] | None:
        parent = self._stage(earlier)
        if parent is None:
            return None
        state = self._state(parent.config, parent.author)
        self._add(StageOp(), parent.id, state, "", stage, stage.start)
        return state, texts(parent.config.get("OnBuild"))

    def _start_from_image(self, stage: Stage, base: str, platform: str) -> tuple[StageState, list[str]] | None:
        known = self.images.get((base, platform))
        if known is None:
            self.missing.append((base, platform))
            return None
        config = known.config
        state = self._state(config.config, config.author)
        self._add(ImageOp(base, platform), None, state, "", stage, stage.start)
        return state, texts(config.config.get("OnBuild"))

    def _state(self, config: Mapping[str, object], author: str) -> StageState:
        return StageState(config, author, self.request.build_args, self.globals, self.dockerfile.escape)

    def _named(self, name: str, before: int) -> Stage | None:
        """The last stage of that name in front of stage `before`."""
        found = [stage for stage in self.dockerfile.stages[:before] if stage.name and stage.name == name]
        return found[-1] if found else None

    # ---- instructions --------------------------------------------------------------------------------

    def _add(
        self, op: Op, parent: int | None, state: StageState, text: str, stage: Stage, shown: Instruction, note: str = ""
    ) -> Step:
        if len(self.steps) >= MAX_STEPS:
            raise DockerfileError(shown.line, f"the build has more than {MAX_STEPS} steps")
        inputs: tuple[int, ...] = ()
        if isinstance(op, CopyOp) and op.origin != CONTEXT:
            inputs = (op.origin,)
        elif isinstance(op, RunOp):
            origins = (mount.origin for mount in op.mounts)
            inputs = tuple(dict.fromkeys(origin for origin in origins if origin is not None and origin != CONTEXT))
        empty = not isinstance(op, RunOp | CopyOp | FolderOp)
        step = Step(
            len(self.steps), op, parent, inputs, state.config, state.author, text, empty,
            shown.text, stage.index, shown.line, note,
        )  # fmt: skip
        self.steps.append(step)
        return step

    def _instruction(self, stage: Stage, state: StageState, instruction: Instruction, note: str) -> bool:
        """Plan one instruction; False when an image it refers to is missing."""
        if isinstance(instruction, Run | Copy):
            origins = self._origins(stage, instruction)
            if origins is None:
                return False
            op: Op
            if isinstance(instruction, Run):
                op, text = plan_run(state, instruction, origins)
            else:
                op, text = plan_copy(state, instruction, origins[0])
        else:
            text = state.apply(instruction)
            is_folder = isinstance(instruction, Setting) and instruction.what == "workdir" and state.folder != "/"
            op = FolderOp(state.folder) if is_folder else ConfigOp()
        self._add(op, self._last(stage).id, state, text, stage, instruction, note)
        return True

    def _labels(self, stage: Stage) -> None:
        """``--label``: one more LABEL at the end of the target."""
        last, state = self.finished[stage.index]
        pairs = tuple(self.request.labels.items())
        state.config = {**state.config, "Labels": {**members(state.config.get("Labels")), **dict(pairs)}}
        text = "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)
        step = self._add(ConfigOp(), last.id, state, text, stage, Label(last.line, text, pairs))
        self.finished[stage.index] = (step, state)

    def _origins(self, stage: Stage, instruction: Instruction) -> list[int | None] | None:
        """The steps whose files the instruction reads, one per ``--from`` or mount; None when an image is missing."""
        if isinstance(instruction, Copy):
            names: list[str | None] = [instruction.origin or None]
        elif isinstance(instruction, Run):
            names = [mount.origin or None for mount in instruction.mounts]
        else:
            return []
        found: list[int | None] = []
        complete = True
        for position, name in enumerate(names):
            if name is None:
                bind = isinstance(instruction, Copy) or instruction.mounts[position].type == "bind"
                found.append(CONTEXT if bind else None)
                continue
            step = self._origin(stage, name, instruction.line)
            complete = complete and step is not None
            found.append(step)
        return found if complete else None

    def _origin(self, stage: Stage, name: str, line: int) -> int | None:
        """The step that ``--from=name`` means: a stage by name or number, else an image."""
        if "$" in name:
            raise DockerfileError(
                line,
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global "
                "scope as a workaround",
            )
        if name.isascii() and name.isdigit():
            index = int(name[:9])
            if index >= stage.index:
                raise DockerfileError(line, f"invalid from flag value {name}: refers to current build block")
            earlier: Stage | None = self.dockerfile.stages[index]
        else:
            earlier = self._named(name.lower(), stage.index)
        if earlier is not None:
            step = self._stage(earlier)
            return step.id if step else None
        return self._image_step(stage, name, line)

    def _image_step(self, stage: Stage, name: str, line: int) -> int | None:
        """A step that stands for an image nobody builds on."""
        key = (name, self.request.platform)
        known = self.images.get(key)
        if known is None:
            self.missing.append(key)
            return None
        if key not in self.image_steps:
            config = known.config
            step = Step(
                len(self.steps), ImageOp(*key), None, (), config.config, config.author, "", True,
                "", -1, line,
            )  # fmt: skip
            self.steps.append(step)
            self.image_steps[key] = step.id
        return self.image_steps[key]

    def _warnings(self) -> tuple[str, ...]:
        unused = sorted(set(self.request.build_args) - self.used - PROXIES - {"SOURCE_DATE_EPOCH"})
        unused = [name for name in unused if not name.startswith("BUILDKIT_")]
        if not unused or self.missing:
            return ()
        return (f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed",)


def _epoch(text: str | None) -> int | None:
    """SOURCE_DATE_EPOCH in seconds."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise InvalidArgument(f"invalid SOURCE_DATE_EPOCH: {text}: expected seconds since 1970")
    return int(text)


def platform_arguments(target: Platform, build: Platform, stage: str) -> dict[str, str]:
    """TARGETPLATFORM, BUILDARCH and the rest: known before the first FROM, and in a stage after ``ARG NAME``."""
    found = {"TARGETSTAGE": stage or "default"}
    for prefix, platform in (("TARGET", target), ("BUILD", build)):
        found[f"{prefix}PLATFORM"] = str(platform)
        found[f"{prefix}OS"] = platform.os
        found[f"{prefix}ARCH"] = platform.architecture
        found[f"{prefix}VARIANT"] = platform.variant
    return found


def plan_run(state: StageState, instruction: Run, origins: list[int | None]) -> tuple[RunOp, str]:
    """A RUN as an operation, and its history text."""
    line = instruction.line
    mounts = tuple(
        PlannedMount(replace(mount, target=state.absolute(mount.target) if mount.target else ""), origin)
        for mount, origin in zip(expanded_mounts(state, instruction.mounts, line), origins, strict=True)
    )
    for planned in mounts:
        if planned.mount.target == "/":
            raise DockerfileError(line, f'invalid mount target "/" of type {planned.mount.type}')
    command = list(instruction.command)
    script: tuple[str, str] | None = None
    if instruction.heredocs and instruction.shell:
        document = parse_heredoc(command[0])
        first = instruction.heredocs[0]
        if document and len(instruction.heredocs) == 1:
            command = [first.text()]
            if first.text().startswith("#!"):
                _check_file_name(first.name, line)
                script = (first.name, first.text())
        else:
            command = ["".join((command[0], *(f"\n{here.content}{here.name}" for here in instruction.heredocs)))]
    if instruction.shell and not script:
        command = [*state.shell, *command]
    arguments = state.given()
    shown = " ".join(command) if not script else f"<<{script[0]} {script[1]}"
    prefix = (
        f"|{len(arguments)} {' '.join(f'{name}={value}' for name, value in arguments.items())} " if arguments else ""
    )
    op = RunOp(
        tuple(command),
        (*state.environment, *(f"{name}={value}" for name, value in arguments.items())),
        tuple(state.proxies()),
        state.user,
        state.folder,
        mounts,
        instruction.network,
        instruction.security,
        script,
    )
    return op, f"RUN {prefix}{shown} # buildkit"


def plan_copy(state: StageState, instruction: Copy, origin: int | None) -> tuple[CopyOp, str]:
    """A COPY or ADD as an operation, and its history text.

    Raises:
        DockerfileError: several sources for a target that is not a folder.
    """
    line = instruction.line
    keyword = "ADD" if instruction.add else "COPY"
    documents = {here.name: here for here in instruction.heredocs}
    sources: list[str] = []
    files: list[tuple[str, str]] = []
    for source in instruction.sources:
        document = parse_heredoc(source) if documents else None
        if document and document[0] in documents:
            here = documents[document[0]]
            _check_file_name(here.name, line)
            text = here.text()
            files.append((here.name, _document(state, text, line) if here.expand else text))
        else:
            word = state.word(source, line)
            if not word:
                raise DockerfileError(line, f"{keyword} source {source!r} is empty after its variables are replaced")
            sources.append(word)
    written = state.word(instruction.target, line)
    target = _target_path(state, written)
    if len(sources) + len(files) > 1 and not target.endswith("/"):
        raise DockerfileError(
            line,
            f"When using {keyword} with more than one source file, the destination must be a directory "
            "and end with a /",
        )
    op = CopyOp(
        tuple(sources),
        target,
        CONTEXT if origin is None else origin,
        instruction.add,
        tuple(files),
        state.word(instruction.chown, line),
        state.word(instruction.chmod, line),
        state.word(instruction.checksum, line),
        instruction.parents,
        instruction.keep_git_dir,
        instruction.unpack,
        tuple(state.word(pattern, line) for pattern in instruction.excludes),
    )
    options = "".join(f" --{name}={value}" for name, value in (("chown", op.chown), ("chmod", op.chmod)) if value) + (
        " --parents" if op.parents else ""
    )
    shown = " ".join((*sources, *(f"<<{name}" for name, _ in files), written))
    return op, f"{keyword}{options} {shown} # buildkit"


def _check_file_name(name: str, line: int) -> None:
    if "/" in name or name in (".", "..") or len(name.encode()) > 255:
        raise DockerfileError(line, f"the here-document {name[:100]!r} cannot become a file of that name")


def _document(state: StageState, text: str, line: int) -> str:
    try:
        return expand.document(text, state.variables())
    except expand.ExpansionError as error:
        raise DockerfileError(line, f"failed to process the here-document: {error}") from None


def _target_path(state: StageState, written: str) -> str:
    """The target, absolute; with a slash at its end when it was written as a folder ("x/", ".", "x/.", "")."""
    folder = written.endswith(("/", "/.", "/..")) or written in ("", ".", "..")
    path = state.absolute(written)
    return posixpath.join(path, "") if folder else path
