"""What `docker rmi` does and refuses, decided without touching anything."""

import pytest

from scow.errors import Conflict
from scow.images.removal import Removal, Users, plan
from scow.oci.digest import digest_of
from scow.oci.reference import Reference

ID = digest_of(b"image")
A, B = "docker.io/library/a:latest", "docker.io/library/b:latest"
A2 = "docker.io/library/a:2"
AD, BD = f"docker.io/library/a@{digest_of(b'1')}", f"docker.io/library/b@{digest_of(b'2')}"
NOBODY = Users({})
STOPPED = Users({ID: ["c" * 64]})
RUNNING = Users({ID: ["c" * 64]}, {"c" * 64})


def by_name(name: str) -> Reference:
    return Reference.parse(name, None)


@pytest.mark.parametrize(
    ("names", "digests", "given", "users", "expected"),
    [
        ([A], [], A, NOBODY, Removal((A,), True)),
        ([A, B], [], A, NOBODY, Removal((A,), False)),
        ([A, B], [], A, RUNNING, Removal((A,), False)),
        ([A], [AD], A, NOBODY, Removal((A, AD), True)),
        ([A, A2], [AD], A, NOBODY, Removal((A,), False)),
        ([A, B], [AD, BD], A, NOBODY, Removal((A, AD), False)),
        ([A], [AD], AD, NOBODY, Removal((AD,), False)),
        ([], [AD], AD, NOBODY, Removal((AD,), True)),
        ([], [], None, NOBODY, Removal((), True)),
        ([A], [AD], None, NOBODY, Removal((A, AD), True)),
    ],
)
def test_what_goes(names: list[str], digests: list[str], given: str | None, users: Users, expected: Removal) -> None:
    assert plan(ID, names, digests, by_name(given) if given else None, users, False) == expected


@pytest.mark.parametrize(
    ("names", "digests", "given", "users", "force", "words"),
    [
        ([A], [], A, STOPPED, False, "must force"),
        ([A], [AD], A, STOPPED, False, "must force"),
        ([A], [], A, RUNNING, True, "cannot be forced"),
        ([A], [], None, STOPPED, False, "must be forced.*stopped container cccccccccccc"),
        ([A], [], None, RUNNING, True, "cannot be forced.*running container cccccccccccc"),
        ([A, B], [], None, NOBODY, False, "must be forced.*multiple repositories"),
        ([A, A2], [], None, NOBODY, False, "multiple repositories"),
        ([A], [AD, BD], None, NOBODY, False, "multiple repositories"),
    ],
)
def test_what_is_refused(
    names: list[str], digests: list[str], given: str | None, users: Users, force: bool, words: str
) -> None:
    with pytest.raises(Conflict, match=f"^conflict: unable to .*{words}"):
        plan(ID, names, digests, by_name(given) if given else None, users, force)


def test_force_takes_everything_by_id() -> None:
    assert plan(ID, [A, B], [AD, BD], None, STOPPED, True) == Removal((A, B, AD, BD), True)
