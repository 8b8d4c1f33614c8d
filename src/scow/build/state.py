"""What one stage knows while its instructions are planned: config, variables, arguments. Pure.

The config is Docker's ContainerConfig as JSON; every method leaves a config that is never changed again in place, so
steps can share it. Instructions that only change the config are carried out here completely.
"""

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from scow.api import signal
from scow.build.dockerfile import expand
from scow.build.dockerfile.instructions import (
    Arg,
    Command,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    OnBuild,
    Setting,
    Volume,
)
from scow.build.dockerfile.lexer import DockerfileError
from scow.build.dockerfile.mounts import Mount
from scow.errors import InvalidArgument

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")

#: Arguments every build knows without declaring them; they stay out of history and cache keys.
PROXIES = frozenset({
    "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy", "NO_PROXY", "no_proxy",
    "ALL_PROXY", "all_proxy",
})  # fmt: skip

#: Ports one EXPOSE range may name.
MAX_RANGE = 65_536


class StageState:
    """Config and variables after the instructions planned so far.

    Args:
        config: the base image's ContainerConfig ({} for scratch).
        build_args: what the user gave with ``--build-arg``.
        globals_: arguments from before the first FROM, and the platform's.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        author: str,
        build_args: Mapping[str, str | None],
        globals_: Mapping[str, str],
        escape: str,
    ) -> None:
        self.config: dict[str, Any] = {key: value for key, value in config.items() if key != "OnBuild"}
        self.author = author
        self.arguments: dict[str, str | None] = {}
        self.used: set[str] = set()
        self._build_args = build_args
        self._globals = globals_
        self._escape = escape
        self._command_set = False
        if not any(item.startswith("PATH=") for item in self.environment):
            self._set("Env", [*self.environment, f"PATH={DEFAULT_PATH}"])

    @property
    def environment(self) -> list[str]:
        """The config's environment, NAME=value."""
        return texts(self.config.get("Env"))

    @property
    def folder(self) -> str:
        """The working directory, absolute."""
        folder = self.config.get("WorkingDir")
        return posixpath.join("/", folder if isinstance(folder, str) else "")

    @property
    def user(self) -> str:
        """Who commands run as."""
        user = self.config.get("User")
        return user if isinstance(user, str) else ""

    @property
    def shell(self) -> tuple[str, ...]:
        """What runs commands in shell form."""
        return tuple(texts(self.config.get("Shell")) or DEFAULT_SHELL)

    def given(self) -> dict[str, str]:
        """The declared arguments that have a value and are not hidden by the environment, in order."""
        environment = pairs_of(self.environment)
        return {
            name: value
            for name, value in self.arguments.items()
            if value is not None and name not in environment and name not in PROXIES
        }

    def proxies(self) -> list[str]:
        """NAME=value of the proxy settings the user gave."""
        self.used.update(PROXIES & self._build_args.keys())
        return sorted(f"{name}={value}" for name, value in self._build_args.items() if name in PROXIES and value)

    def variables(self) -> dict[str, str]:
        """What ``$name`` means now: arguments, overruled by the environment."""
        found = {name: value for name, value in self.arguments.items() if value is not None}
        found.update(pairs_of(self.environment))
        return found

    def word(self, text: str, line: int) -> str:
        """`text` expanded, as one word."""
        try:
            return expand.word(text, self.variables(), self._escape)
        except expand.ExpansionError as error:
            raise DockerfileError(line, f'failed to process "{text[:200]}": {error}') from None

    def words(self, text: str, line: int) -> list[str]:
        """`text` expanded, as any number of words."""
        try:
            return expand.words(text, self.variables(), self._escape)
        except expand.ExpansionError as error:
            raise DockerfileError(line, f'failed to process "{text[:200]}": {error}') from None

    def absolute(self, path: str) -> str:
        """`path` against the working directory, cleaned."""
        joined = posixpath.normpath(posixpath.join(self.folder, path))
        return "/" + joined.lstrip("/")

    # ---- the instructions that only change the config; each returns its history text ----------------

    def apply(self, instruction: Instruction) -> str:
        """Carry out one of them.

        Raises:
            DockerfileError: a value that is wrong only after expansion (port, signal, empty name).
        """
        if isinstance(instruction, Arg):
            return self.declare(instruction)
        if isinstance(instruction, Env):
            return self._env(instruction)
        if isinstance(instruction, Label):
            return self._label(instruction)
        if isinstance(instruction, Command):
            return self._command(instruction)
        if isinstance(instruction, Setting):
            return self._setting(instruction)
        if isinstance(instruction, Expose):
            return self._expose(instruction)
        if isinstance(instruction, Volume):
            return self._volume(instruction)
        if isinstance(instruction, Healthcheck):
            return self._healthcheck(instruction)
        if isinstance(instruction, OnBuild):
            self._set("OnBuild", [*texts(self.config.get("OnBuild")), instruction.trigger])
            return ""
        raise DockerfileError(instruction.line, f"{instruction.text.split()[0]} cannot stand here")

    def declare(self, instruction: Arg) -> str:
        """ARG: the user's value, else the default written here, else the one from before the first FROM."""
        shown = []
        for name, default in instruction.pairs:
            value = self._argument(name, default, instruction.line)
            self.arguments[name] = value
            shown.append(name if value is None else f"{name}={value}")
        return "ARG " + " ".join(shown)

    def _argument(self, name: str, default: str | None, line: int) -> str | None:
        if name in self._build_args:
            self.used.add(name)
            given = self._build_args[name]
            if given is not None:
                return given
        if default is not None:
            return self.word(default, line)
        return self._globals.get(name)

    def _set(self, key: str, value: object) -> None:
        self.config = {**self.config, key: value}

    def _env(self, instruction: Env) -> str:
        # All values see the environment from before the instruction: "ENV abc=bye def=$abc".
        pairs = [
            (self.word(name, instruction.line), self.word(value, instruction.line)) for name, value in instruction.pairs
        ]
        environment = pairs_of(self.environment)
        for name, value in pairs:
            if not name:
                raise DockerfileError(instruction.line, "ENV names can not be blank")
            environment[name] = value
        self._set("Env", [f"{name}={value}" for name, value in environment.items()])
        return "ENV " + " ".join(f"{name}={value}" for name, value in pairs)

    def _label(self, instruction: Label) -> str:
        pairs = [
            (self.word(name, instruction.line), self.word(value, instruction.line)) for name, value in instruction.pairs
        ]
        if any(not name for name, _ in pairs):
            raise DockerfileError(instruction.line, "LABEL names can not be blank")
        self._set("Labels", {**members(self.config.get("Labels")), **dict(pairs)})
        return "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)

    def _command(self, instruction: Command) -> str:
        words = [*self.shell, *instruction.words] if instruction.shell else list(instruction.words)
        if instruction.what == "shell":
            self._set("Shell", words)
            return f"SHELL [{' '.join(words)}]"
        if instruction.what == "cmd":
            self._set("Cmd", words)
            self._command_set = True
            return f"CMD {quoted(words)}"
        self._set("Entrypoint", words)
        if not self._command_set:
            self.config = {key: value for key, value in self.config.items() if key != "Cmd"}
        return f"ENTRYPOINT {quoted(words)}"

    def _setting(self, instruction: Setting) -> str:
        value = self.word(instruction.value, instruction.line)
        if instruction.what == "user":
            self._set("User", value)
            return f"USER {value}"
        if instruction.what == "maintainer":
            self.author = value
            return f"MAINTAINER {value}"
        if instruction.what == "stopsignal":
            try:
                signal.parse(value)
            except InvalidArgument as error:
                raise DockerfileError(instruction.line, str(error)) from None
            self._set("StopSignal", value)
            return f"STOPSIGNAL {value}"
        if not value:
            raise DockerfileError(instruction.line, "WORKDIR must not be empty after its variables are replaced")
        self._set("WorkingDir", self.absolute(value))
        return f"WORKDIR {self.folder}"

    def _expose(self, instruction: Expose) -> str:
        ports: list[str] = []
        for text in instruction.ports:
            for word in self.words(text, instruction.line):
                ports.extend(_ports(word, instruction.line))
        if len(ports) > MAX_RANGE:
            raise DockerfileError(instruction.line, f"EXPOSE names more than {MAX_RANGE} ports")
        exposed = {**members(self.config.get("ExposedPorts")), **{port: {} for port in ports}}
        self._set("ExposedPorts", exposed)
        return f"EXPOSE [{' '.join(ports)}]"

    def _volume(self, instruction: Volume) -> str:
        paths = [self.word(path, instruction.line) for path in instruction.paths]
        if not all(paths):
            raise DockerfileError(instruction.line, "VOLUME specified can not be an empty string")
        self._set("Volumes", {**members(self.config.get("Volumes")), **{path: {} for path in paths}})
        return f"VOLUME [{' '.join(paths)}]"

    def _healthcheck(self, instruction: Healthcheck) -> str:
        options = {
            "Interval": instruction.interval,
            "Timeout": instruction.timeout,
            "StartPeriod": instruction.start_period,
            "StartInterval": instruction.start_interval,
            "Retries": instruction.retries,
        }
        given = {key: value for key, value in options.items() if value}
        self._set("Healthcheck", {"Test": list(instruction.test), **given})
        shown = "".join(f" {key}={value}" for key, value in given.items())
        return f"HEALTHCHECK {quoted(instruction.test)}{shown}"


def texts(value: object) -> list[str]:
    """The texts in a list of a config that came from somewhere else; anything else is left out."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def members(value: object) -> dict[str, Any]:
    """An object of a config that came from somewhere else; empty if it is none."""
    return dict(value) if isinstance(value, dict) else {}


def pairs_of(items: Sequence[str]) -> dict[str, str]:
    """NAME=value items as a mapping, in order; a later one wins."""
    found: dict[str, str] = {}
    for item in items:
        name, _, value = item.partition("=")
        found[name] = value
    return found


def _ports(word: str, line: int) -> list[str]:
    """ "80", "80/udp", "8000-8002/tcp", "127.0.0.1:80:8080" → ["8080/tcp"]: only the container's side counts."""
    spec, _, protocol = word.rpartition(":")[2].partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise DockerfileError(line, f"invalid proto: {protocol}")
    first, dash, last = spec.partition("-")
    bounds = (first, last if dash else first)
    if not all(bound.isascii() and bound.isdigit() and len(bound) <= 5 and int(bound) <= 65535 for bound in bounds):
        raise DockerfileError(line, f"invalid containerPort: {spec}")
    low, high = int(bounds[0]), int(bounds[1])
    if high < low:
        raise DockerfileError(line, f"invalid range specified for port: {spec}")
    return [f"{port}/{protocol}" for port in range(low, high + 1)]


def quoted(words: Sequence[str]) -> str:
    """Go's ``%q`` of a list, as BuildKit's history shows commands: ["nginx" "-g" "daemon off;"]."""
    return "[" + " ".join(json.dumps(word, ensure_ascii=False) for word in words) + "]"


def expanded_mounts(state: StageState, mounts: Sequence[Mount], line: int) -> list[Mount]:
    """RUN's mounts with the variables in their target, source and id replaced."""
    return [
        replace(
            mount,
            target=state.word(mount.target, line),
            source=state.word(mount.source, line),
            id=state.word(mount.id, line),
        )
        for mount in mounts
    ]
