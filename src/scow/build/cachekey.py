"""Cache keys: equal keys mean that a step would do the same again. Pure.

A key covers what the step starts from (the chain id of the files, and of the config only what it can see) and what it
reads (content digests). It covers no name, time or place: any Dockerfile that comes to the same situation shares the
result. Steps that only change the config are keyed by the whole config, since all they leave is a time of creation.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from scow.build.graph import ConfigOp, CopyOp, FolderOp, PlannedMount, RunOp, Step

#: Changes whenever a step's result for an equal key could differ from an older version's.
FORMAT = "scow.build.1"


def step_key(
    step: Step, chain: str, parent_config: dict[str, Any], contents: Sequence[str], extra: Sequence[str]
) -> str:
    """The key of one step, 64 hex digits.

    Args:
        chain: chain id of the files before the step, "" for none.
        contents: digests of what it reads, in the order of `CopyOp` sources or `RunOp` mounts.
        extra: settings of the build that the step's command can see (network, extra hosts).
    """
    op = step.op
    if isinstance(op, RunOp):
        what: list[Any] = ["run", *_run(op), list(extra)]
    elif isinstance(op, CopyOp):
        what = ["copy", op.add, op.target, op.chown, op.chmod, op.parents, op.unpack, list(op.excludes)]
    elif isinstance(op, FolderOp):
        what = ["folder", op.path]
    elif isinstance(op, ConfigOp):
        what = ["config", parent_config, step.config, step.author, step.created_by]
    else:
        what = ["start", type(op).__name__]
    return _digest([FORMAT, chain, what, list(contents)])


def tree_key(chain: str, sources: Sequence[str], excludes: Sequence[str], chowned: bool) -> str:
    """Under which the digest of files of an unchanging snapshot is remembered."""
    return _digest([FORMAT, "tree", chain, list(sources), list(excludes), chowned])


def _run(op: RunOp) -> list[Any]:
    return [
        list(op.command),
        list(op.environment),
        op.user,
        op.folder,
        [_mount(mount) for mount in op.mounts],
        op.network,
        op.security,
        list(op.script or ()),
    ]


def _mount(planned: PlannedMount) -> list[Any]:
    mount = planned.mount
    return [
        mount.type,
        mount.target,
        mount.source,
        mount.readonly,
        mount.id,
        mount.mode,
        mount.uid,
        mount.gid,
        mount.env,
    ]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
