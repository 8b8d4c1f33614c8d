"""Events a killed daemon owed: it had done something, or somebody else had meanwhile, and died before it could tell.

What is on record is compared with the events on record; the order is that of a container's life.
"""

from scow.containers.container import Container, Record
from scow.containers.context import Context
from scow.containers.state import State

#: Attributes that belong to one event and not to the container.
_PASSING = frozenset({"exitCode", "execDuration", "execID", "signal"})


def tell(context: Context, container: Container) -> None:
    """Publish what is missing for one container, before its state is brought up to date."""
    record, task = container.record, context.tasks.get(container.id)
    if context.events.untold("container", "create", container.id, record.created):
        context.tell(container, "create")
    started = max(record.started, task.started_at if task is not None else 0)
    if started and context.events.untold("container", "start", container.id, started):
        context.tell(container, "start")
    over = record.state in (State.EXITED, State.RESTARTING, State.REMOVING) and record.finished >= started > 0
    if over and context.events.untold("container", "die", container.id, record.finished):
        context.tell(container, "die", **death(record))


def tell_removed(context: Context) -> None:
    """Publish the removals of containers that have events but no record any more."""
    last = {event.id: event for event in context.events.past({"type": ["container"]}, 0) if event.id}
    for event in last.values():
        if event.action != "destroy" and event.id not in context.containers:
            attributes = {key: value for key, value in event.attributes.items() if key not in _PASSING}
            context.events.publish("container", "destroy", event.id, attributes)


def death(record: Record) -> dict[str, str]:
    """The attributes of a ``die`` event: exit code, and seconds it ran."""
    lived = max(record.finished - record.started, 0) // 1_000_000_000
    return {"exitCode": str(record.exit_code), "execDuration": str(lived)}
