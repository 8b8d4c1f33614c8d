"""What a container may ask of the kernel: the default policy, OCI ``linux.seccomp`` and Docker's profile files.

Everything ends in `compile_spec` or `default_program`, whose bytes go to the container's first process and to every
exec in it (`scow.linux.seccomp.load`). Source: runtime-spec 1.2 config-linux.md "Seccomp"; Docker's profile format.
"""

from __future__ import annotations

import errno
import os

from scow.errors import InvalidArgument
from scow.linux import seccomp as bpf
from scow.linux.seccomp import ALLOW, EQ, ERRNO, FAMILY, LOW_BITS, Condition, Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_ACTIONS = {
    "SCMP_ACT_KILL": bpf.KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": bpf.KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": bpf.KILL_PROCESS,
    "SCMP_ACT_TRAP": bpf.TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": bpf.TRACE,
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": bpf.LOG,
    "SCMP_ACT_NOTIFY": bpf.NOTIFY,
}
_OPERATORS = {
    "SCMP_CMP_NE": bpf.NE,
    "SCMP_CMP_LT": bpf.LT,
    "SCMP_CMP_LE": bpf.LE,
    "SCMP_CMP_EQ": EQ,
    "SCMP_CMP_GE": bpf.GE,
    "SCMP_CMP_GT": bpf.GT,
    "SCMP_CMP_MASKED_EQ": EQ,
}
_ARCHITECTURES = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "i386",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
}
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,  # the caller has one thread
    "SECCOMP_FILTER_FLAG_LOG": bpf.FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": bpf.FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": bpf.FLAG_WAIT_KILLABLE_RECV,
}
#: Go's names of architectures, which Docker's profiles use in conditions.
_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_NOT_KNOWN_YET = ERRNO | errno.ENOSYS
_REFUSED = ERRNO | errno.EPERM
_MOST_ERRNO = 4095

_programs: dict[frozenset[str], bytes] = {}


def default_program(capabilities: frozenset[str]) -> bytes:
    """The default policy for a container that holds `capabilities`, compiled; computed once for each set that matters.

    Raises:
        InvalidArgument: no policy for this machine's architecture.
    """
    from scow.runtime.default_policy import BY_CAPABILITY

    key = capabilities.intersection(BY_CAPABILITY)
    program = _programs.get(key)
    if program is None:
        program = bpf.compile_filter(default_rules(key), _REFUSED, native(), _NOT_KNOWN_YET)
        _programs[key] = program
    return program


def default_rules(capabilities: frozenset[str]) -> list[Rule]:
    """The default policy as rules, the first that fits deciding.

    Address families and personalities are compared in the 32 bits the kernel looks at: in 64 bits a process could get
    any family past the filter by setting a bit that is then thrown away.
    """
    from scow.runtime import default_policy as policy

    allowed = [name for names in policy.ALLOWED.values() for name in names.split()]
    rules = [Rule(allowed, ALLOW)]
    rules += [
        Rule(names.split(), ALLOW) for capability, names in policy.BY_CAPABILITY.items() if capability in capabilities
    ]
    rules += [
        Rule(("socket",), _REFUSED, (Condition(0, EQ, family, LOW_BITS),))
        for family in policy.FORBIDDEN_FAMILIES.values()
    ]
    rules.append(Rule(("socket",), ALLOW))
    rules += [
        Rule(("personality",), ALLOW, (Condition(0, EQ, domain, LOW_BITS),)) for domain in policy.PERSONALITIES.values()
    ]
    rules.append(Rule(("clone",), ALLOW, (Condition(0, EQ, 0, policy.NAMESPACE_FLAGS),)))
    rules.append(Rule((policy.HIDDEN_FLAGS,), _NOT_KNOWN_YET))
    return rules


def native() -> tuple[str, ...]:
    """The architectures this machine's kernel runs, its own first.

    Raises:
        InvalidArgument: a machine we have no system call numbers for.
    """
    machine = os.uname().machine
    if machine not in FAMILY:
        raise InvalidArgument(f"seccomp is not available on {machine}: use --security-opt seccomp=unconfined")
    return FAMILY[machine]


# ── OCI ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def compile_spec(seccomp: Mapping[str, Any]) -> bytes:
    """OCI ``linux.seccomp``, compiled for this machine.

    As runc does: names this machine lacks are skipped, the native architecture is always covered, and calls newer
    than any the profile names fail with ENOSYS (unless the profile lets everything pass by default).

    Raises:
        InvalidArgument: a field that cannot be understood; the text names it.
    """
    default = _action(seccomp.get("defaultAction"), seccomp.get("defaultErrnoRet"), "defaultAction")
    if default == bpf.NOTIFY:
        raise InvalidArgument(
            "seccomp: SCMP_ACT_NOTIFY cannot be the defaultAction: nobody could answer the first call"
        )
    architectures = list(native()[:1])
    for name in _texts(seccomp, "architectures"):
        known = _ARCHITECTURES.get(name)
        if known is None and not name.startswith("SCMP_ARCH_"):
            raise InvalidArgument(f"seccomp: unknown architecture {name!r}")
        if known in native() and known not in architectures:
            architectures.append(known)
    rules = [rule for entry in _objects(seccomp, "syscalls") for rule in _rules(entry, default)]
    if "i386" in architectures:
        rules = bpf.demultiplexed(rules, default)
    newer = None if default in (ALLOW, bpf.LOG, _NOT_KNOWN_YET) else _NOT_KNOWN_YET
    return bpf.compile_filter(rules, default, architectures, newer)


def flags_of(seccomp: Mapping[str, Any]) -> int:
    """The flags to load a spec's filter with; none given means speculation stays as it is, as with runc.

    Raises:
        InvalidArgument: a flag nobody knows.
    """
    names = _texts(seccomp, "flags")
    for name in names:
        if name not in _FLAGS:
            raise InvalidArgument(f"seccomp flags {name!r} is not known: remove it")
    return sum({_FLAGS[name] for name in names}) if names else bpf.FLAG_SPEC_ALLOW


def _rules(entry: Mapping[str, Any], default: int) -> list[Rule]:
    """The rules of one entry of "syscalls"; one that only repeats the default is none."""
    names = _texts(entry, "names")
    if not names:
        raise InvalidArgument("seccomp: an entry of syscalls needs names")
    action = _action(entry.get("action"), entry.get("errnoRet"), "action")
    if action == default:
        return []
    if action == bpf.NOTIFY and "write" in names:
        raise InvalidArgument("seccomp: SCMP_ACT_NOTIFY cannot be used for write: the listener could not be reached")
    conditions = [_condition(argument) for argument in _objects(entry, "args")]
    if len({condition.index for condition in conditions}) < len(conditions):
        # Two conditions on one argument mean "or", as they did before there was a way to say "and".
        return [Rule(names, action, (condition,)) for condition in conditions]
    return [Rule(names, action, conditions)]


def _condition(argument: Mapping[str, Any]) -> Condition:
    operator = argument.get("op")
    if not isinstance(operator, str) or operator not in _OPERATORS:
        raise InvalidArgument(f"seccomp: unknown operator {operator!r} in args")
    index, value = _integer(argument, "index", 0), _integer(argument, "value", 0)
    if operator == "SCMP_CMP_MASKED_EQ":
        return Condition(index, EQ, _integer(argument, "valueTwo", 0), value)
    return Condition(index, _OPERATORS[operator], value)


def _action(name: Any, number: Any, field: str) -> int:
    if not isinstance(name, str) or name not in _ACTIONS:
        raise InvalidArgument(f"seccomp: {field} {name!r} is not an action: use SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, …")
    action = _ACTIONS[name]
    if action not in (ERRNO, bpf.TRACE):
        return action
    if number is None:
        number = errno.EPERM
    if not isinstance(number, int) or not 0 <= number <= _MOST_ERRNO:
        raise InvalidArgument(f"seccomp: {number!r} is not an error number: use 0 to {_MOST_ERRNO}")
    return action | number


def _texts(source: Mapping[str, Any], key: str) -> list[str]:
    found = source.get(key) or []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise InvalidArgument(f"seccomp: {key} must be a list of texts")
    return found


def _objects(source: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = source.get(key) or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InvalidArgument(f"seccomp: {key} must be a list of objects")
    return found


def _integer(source: Mapping[str, Any], key: str, default: int) -> int:
    found = source.get(key, default)
    if not isinstance(found, int) or isinstance(found, bool):
        raise InvalidArgument(f"seccomp: {key} must be a number, not {found!r}")
    return found


# ── Docker's profile files ──────────────────────────────────────────────────────────────────────────────────────────


def parse_profile(profile: Mapping[str, Any], capabilities: frozenset[str]) -> dict[str, Any]:
    """A profile as given to ``--security-opt seccomp=FILE`` → OCI ``linux.seccomp`` for this machine.

    Docker's format adds to OCI's: ``archMap`` (architecture and what comes with it), ``includes`` and ``excludes``
    (architectures by Go's names, capabilities, kernel version) and the old ``name`` for one call.

    Raises:
        InvalidArgument: what Docker refuses too, or a field of the wrong type.
    """
    if not isinstance(profile, dict):
        raise InvalidArgument("Decoding seccomp profile failed: it must be a JSON object")
    if profile.get("architectures") and profile.get("archMap"):
        raise InvalidArgument(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either"
            " 'architectures' or 'archMap'"
        )
    found: dict[str, Any] = {"defaultAction": profile.get("defaultAction")}
    for key in ("defaultErrnoRet", "flags", "listenerPath", "listenerMetadata"):
        if profile.get(key) is not None:
            found[key] = profile[key]
    own = next(name for name, ours in _ARCHITECTURES.items() if ours == native()[0])
    architectures = _texts(profile, "architectures")
    for entry in _objects(profile, "archMap"):
        if entry.get("architecture") == own:
            architectures = [own, *_texts(entry, "subArchitectures")]
    if architectures:
        found["architectures"] = architectures
    found["syscalls"] = [_oci_entry(entry) for entry in _objects(profile, "syscalls") if _applies(entry, capabilities)]
    compile_spec(found)  # what cannot be compiled is refused now, not at the container's start
    return found


def _oci_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    name, names = entry.get("name"), _texts(entry, "names")
    if name and names:
        raise InvalidArgument(
            "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
        )
    found: dict[str, Any] = {"names": names or [name], "action": entry.get("action")}
    if entry.get("errnoRet") is not None:
        found["errnoRet"] = entry["errnoRet"]
    arguments = _objects(entry, "args")
    if arguments:
        found["args"] = [
            {key: argument[key] for key in ("index", "value", "valueTwo", "op") if key in argument}
            for argument in arguments
        ]
    return found


def _applies(entry: Mapping[str, Any], capabilities: frozenset[str]) -> bool:
    """Whether an entry's includes all hold and none of its excludes does."""
    includes, excludes = entry.get("includes") or {}, entry.get("excludes") or {}
    if not isinstance(includes, dict) or not isinstance(excludes, dict):
        raise InvalidArgument("seccomp: includes and excludes must be objects")
    own = _GO_ARCHITECTURES[native()[0]]
    if excludes:
        if own in _texts(excludes, "arches") or not capabilities.isdisjoint(_texts(excludes, "caps")):
            return False
        if excludes.get("minKernel") and _kernel_at_least(excludes["minKernel"]):
            return False
    arches, wanted = _texts(includes, "arches"), _texts(includes, "caps")
    if arches and own not in arches:
        return False
    if not capabilities.issuperset(wanted):
        return False
    return not includes.get("minKernel") or _kernel_at_least(includes["minKernel"])


def _kernel_at_least(version: Any) -> bool:
    parts = version.split(".") if isinstance(version, str) else []
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise InvalidArgument(f"seccomp: minKernel {version!r} is not a version like 4.8")
    major, minor = os.uname().release.split(".")[:2]
    digits = "".join(character for character in minor if character.isdigit())
    return (int(major), int(digits or 0)) >= (int(parts[0]), int(parts[1]))
