"""Marking is pure: a graph in, a set out."""

from scow.images.gc import mark
from scow.oci.descriptor import Descriptor
from scow.oci.digest import digest_of


def blob(name: str) -> Descriptor:
    return Descriptor("", digest_of(name.encode()), 1)


def test_everything_reachable_and_nothing_else() -> None:
    graph = {"index": ["m1", "m2"], "m1": ["config", "layer"], "m2": ["layer"], "other": ["orphan"]}
    by_digest = {blob(name).digest: children for name, children in graph.items()}
    asked: list[str] = []

    def children(descriptor: Descriptor) -> list[Descriptor]:
        asked.append(descriptor.digest)
        return [blob(name) for name in by_digest.get(descriptor.digest, [])]

    assert mark([blob("index")], children) == {blob(name).digest for name in ("index", "m1", "m2", "config", "layer")}
    assert len(asked) == len(set(asked))


def test_circles_end() -> None:
    assert mark([blob("a")], lambda _: [blob("a"), blob("b")]) == {blob("a").digest, blob("b").digest}
