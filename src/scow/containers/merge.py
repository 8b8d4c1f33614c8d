"""The user's settings over the image's, as Docker joins them. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from scow.api.containers import ContainerConfig, HealthConfig, words
from scow.api.decode import convert
from scow.errors import InvalidArgument


def merge(user: ContainerConfig, image: Mapping[str, Any]) -> ContainerConfig:
    """A new config: `user` wins; what it leaves open comes from the image's `config` object.

    Cmd of the image counts only where the user gave no Entrypoint; ``Entrypoint: [""]`` takes the image's away.

    Raises:
        InvalidArgument: nothing says what to run, or the image's config is malformed.
    """
    base = convert(dict(image), ContainerConfig, "image config")
    entrypoint, cmd = words(user.entrypoint), words(user.cmd)
    if not entrypoint:
        cmd = cmd or words(base.cmd)
        entrypoint = words(base.entrypoint) if entrypoint is None else entrypoint
    if entrypoint == [""]:
        entrypoint = None
    if not entrypoint and not cmd:
        raise InvalidArgument("no command specified")
    return msgspec.structs.replace(
        user,
        entrypoint=entrypoint,
        cmd=cmd,
        user=user.user or base.user,
        exposed_ports={**(base.exposed_ports or {}), **(user.exposed_ports or {})} or None,
        env=merge_env(user.env or [], base.env or []),
        labels={**(base.labels or {}), **(user.labels or {})},
        healthcheck=_health(user.healthcheck, base.healthcheck),
        working_dir=user.working_dir or base.working_dir,
        volumes={**(base.volumes or {}), **(user.volumes or {})} or None,
        stop_signal=user.stop_signal or base.stop_signal,
        on_build=None,
        shell=user.shell or base.shell,
    )


def merge_env(user: list[str], image: list[str]) -> list[str]:
    """The user's variables, then those of the image the user did not name (``NAME`` without ``=`` unsets)."""
    named = {entry.partition("=")[0] for entry in user}
    return user + [entry for entry in image if entry.partition("=")[0] not in named]


def _health(user: HealthConfig | None, image: HealthConfig | None) -> HealthConfig | None:
    """The user's probe with its open fields filled from the image's."""
    if user is None or image is None:
        return user or image
    return HealthConfig(
        test=user.test or image.test,
        interval=user.interval or image.interval,
        timeout=user.timeout or image.timeout,
        start_period=user.start_period or image.start_period,
        start_interval=user.start_interval or image.start_interval,
        retries=user.retries or image.retries,
    )
