"""One error out of many: what a task group ended with."""

import asyncio

import pytest

from scow.errors import NotFound, first_of


def test_what_was_raised_on_purpose_comes_first() -> None:
    inner = ExceptionGroup("inner", [KeyError("bug"), NotFound("nothing by that name")])
    assert str(first_of(BaseExceptionGroup("outer", [asyncio.CancelledError(), inner]))) == "nothing by that name"


def test_a_failure_comes_before_a_cancellation() -> None:
    assert isinstance(first_of(BaseExceptionGroup("x", [asyncio.CancelledError(), OSError("disk")])), OSError)


def test_a_task_group_ends_with_one_plain_error() -> None:
    async def fail() -> None:
        raise NotFound("here")

    async def both() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                group.create_task(asyncio.Event().wait())
        except BaseExceptionGroup as failures:
            raise first_of(failures) from None

    with pytest.raises(NotFound, match="here"):
        asyncio.run(both())
