"""The small event loop."""

import os

from scow.shim.loop import READ, WRITE, Loop


def test_a_handler_may_forget_a_descriptor_whose_event_is_waiting():
    loop = Loop()
    first, second = os.pipe(), os.pipe()
    seen: list[int] = []

    def make(own: int, other: int):
        def ready(_events: int) -> None:
            seen.append(own)
            loop.forget(own)
            loop.forget(other)
            loop.stop()

        return ready

    loop.watch(first[0], READ, make(first[0], second[0]))
    loop.watch(second[0], READ, make(second[0], first[0]))
    os.write(first[1], b"x")
    os.write(second[1], b"x")
    loop.run()
    assert len(seen) == 1
    for fd in (*first, *second):
        os.close(fd)


def test_deadlines_are_moved_and_cancelled():
    loop = Loop()
    fired: list[str] = []
    loop.at("a", 0.2, lambda: fired.append("late"))
    loop.at("a", 0.0, lambda: fired.append("a"))
    loop.at("b", 0.0, lambda: fired.append("b"))
    loop.cancel("b")
    loop.at("end", 0.05, loop.stop)
    loop.run()
    assert fired == ["a"]


def test_ends_of_children_are_told():
    loop = Loop()
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    ended: list[int] = []

    def child() -> None:
        ended.append(os.waitpid(pid, 0)[1])
        loop.stop()

    loop.child = child
    loop.at("never", 20, loop.stop)
    loop.run()
    assert [os.waitstatus_to_exitcode(status) for status in ended] == [3]


def test_watching_again_changes_what_is_watched_for():
    loop = Loop()
    reader, writer = os.pipe()
    seen: list[int] = []
    loop.watch(writer, WRITE, lambda events: (seen.append(events), loop.stop())[1])
    loop.watch(writer, 0, lambda events: seen.append(events))
    loop.at("end", 0.02, loop.stop)
    loop.run()
    assert seen == []
    loop.forget(writer)
    loop.forget(writer)
    os.close(reader)
    os.close(writer)
