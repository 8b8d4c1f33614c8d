"""The words for failures, which Docker's clients search in, and the messages between creator and child."""

import errno
import os

import pytest

from scow.runtime.sync import Failed, channels, failure


@pytest.mark.parametrize(
    ("stage", "number", "path", "words"),
    [
        ("exec", errno.ENOENT, "nope", 'exec: "nope": executable file not found in $PATH'),
        ("exec", errno.ENOENT, "/nope", 'exec: "/nope": stat /nope: no such file or directory'),
        ("exec", errno.EACCES, "/etc", 'exec: "/etc": permission denied'),
        ("cwd", errno.ENOENT, "/x", 'chdir to cwd ("/x") set in config.json failed: no such file or directory'),
        ("mount", errno.ELOOP, "/proc", "mount /proc: too many levels of symbolic links"),
        ("pivot", errno.EINVAL, "", "pivot: invalid argument"),
    ],
)
def test_failures_are_told_in_dockers_words(stage, number, path, words):
    assert str(Failed(stage, number, path)) == f"unable to start container process: {words}"


def test_a_failure_travels_with_stage_errno_and_path():
    ours, theirs = channels()
    theirs.failed("mount", OSError(errno.EBUSY, os.strerror(errno.EBUSY), "/x"))
    theirs.close()
    message, _ = ours.receive()
    assert message is not None
    error = failure(message)
    assert (error.stage, error.errno, error.path, error.text) == ("mount", errno.EBUSY, "/x", "")
    assert ours.receive() == (None, [])
    ours.close()


def test_words_of_their_own_replace_the_kernels():
    ours, theirs = channels()
    theirs.failed("mount", OSError(errno.ELOOP, "must be mounted on an ordinary directory", "/proc"))
    message, _ = ours.receive()
    assert message is not None
    assert "mount /proc: must be mounted on an ordinary directory" in str(failure(message))
    ours.close()
    theirs.close()


def test_descriptors_travel_and_a_peer_that_left_is_no_error():
    ours, theirs = channels()
    fd = os.open("/", os.O_PATH)
    theirs.send({"at": "terminal"}, [fd])
    message, fds = ours.receive()
    assert message == {"at": "terminal"}
    assert os.fstat(fds[0]).st_ino == os.fstat(fd).st_ino
    assert not os.get_inheritable(fds[0])
    os.close(fd)
    os.close(fds[0])
    theirs.close()
    ours.send({"go": True})
    ours.close()
