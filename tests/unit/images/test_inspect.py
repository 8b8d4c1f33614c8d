"""Images as clients see them: fields, filters, history."""

from typing import Any

import pytest

from scow.api.filters import Filters
from scow.errors import InvalidArgument, NoSuchImage
from scow.images.history import history
from scow.images.image import Image, seconds
from scow.images.inspect import inspect, select, shared_sizes, summary
from scow.oci.config import History, ImageConfig
from scow.oci.descriptor import Descriptor
from scow.oci.digest import digest_of
from scow.oci.mediatypes import OCI_MANIFEST
from scow.oci.reference import Reference
from scow.snapshots.layers import chain_ids
from support.openapi import description


def image(
    name: str, created: str = "2026-01-01T00:00:00Z", layers: tuple[str, ...] = ("base",), **config: Any
) -> Image:
    diff_ids = tuple(digest_of(layer.encode()) for layer in layers)
    steps = tuple(History(created, f"step {layer}") for layer in layers)
    made = ImageConfig("amd64", "linux", created=created, config=config, diff_ids=diff_ids, history=steps)
    manifest = Descriptor(OCI_MANIFEST, digest_of(b"manifest " + name.encode()), 7)
    names = (str(Reference.parse(name)),) if name else ()
    return Image(
        digest_of(made.to_bytes()), manifest, made, (), names, (), 5, chain_ids(diff_ids)[-1], "2026-01-02T00:00:00Z"
    )


OLD = image("old:1", "2025-01-01T00:00:00Z", Labels={"kind": "a"})
MID = image("team/mid:1", "2025-06-01T00:00:00Z", Labels={"kind": "b", "x": ""})
NEW = image("", "2026-01-01T00:00:00Z")
ALL = [MID, OLD, NEW]


def found(**filters: list[str]) -> list[Image]:
    def resolve(ref: str) -> Image:
        for candidate in ALL:
            if str(Reference.parse(ref)) in candidate.names:
                return candidate
        raise NoSuchImage(ref)

    return select(ALL, Filters(filters), resolve)


def test_newest_first() -> None:
    assert found() == [NEW, MID, OLD]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"dangling": ["true"]}, [NEW]),
        ({"dangling": ["false"]}, [MID, OLD]),
        ({"label": ["kind"]}, [MID, OLD]),
        ({"label": ["kind=b"]}, [MID]),
        ({"label": ["kind", "x"]}, [MID]),
        ({"before": ["team/mid:1"]}, [OLD]),
        ({"since": ["old:1"]}, [NEW, MID]),
        ({"until": ["2025-03-01"]}, [OLD]),
        ({"reference": ["old"]}, [OLD]),
        ({"reference": ["old:*"]}, [OLD]),
        ({"reference": ["*:1"]}, [OLD]),
        ({"reference": ["*/*"]}, [MID]),
        ({"reference": ["nothing"]}, []),
    ],
)
def test_filters(filters: dict[str, list[str]], expected: list[Image]) -> None:
    assert found(**filters) == expected


@pytest.mark.parametrize("filters", [{"nope": ["x"]}, {"dangling": ["perhaps"]}, {"until": ["whenever"]}])
def test_filters_that_mean_nothing(filters: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidArgument):
        found(**filters)


def test_a_filter_on_an_image_that_is_not_there() -> None:
    with pytest.raises(NoSuchImage):
        found(before=["nope"])


def test_hostile_labels_are_left_out() -> None:
    assert image("x:1", Labels={"a": 1, "b": "c"}).labels == {"b": "c"}
    assert image("x:1", Labels=["a"]).labels == {}


def test_the_answers_are_what_the_api_describes() -> None:
    judge = description()
    shown = {
        "ImageInspect": inspect(OLD, "overlay2", {"UpperDir": "/x"}),
        "ImageSummary": summary(NEW, -1, -1),
        "ImageHistoryResponseItem": history(MID, lambda _: 3)[0],
    }
    for name, value in shown.items():
        assert list(judge.faults(value, {"$ref": f"#/definitions/{name}"})) == []


def test_inspect_has_what_clients_read() -> None:
    shown = inspect(OLD, "overlay2", None)
    assert shown["RepoTags"] == ["old:1"]
    assert shown["RootFS"]["Layers"] == [digest_of(b"base")]
    assert shown["Metadata"]["LastTagTime"] == "2026-01-02T00:00:00Z"
    assert shown["Config"]["Cmd"] is None
    assert shown["Descriptor"]["digest"] == OLD.manifest.digest


def test_history_is_newest_first_and_counts_layers() -> None:
    made = image("x:1", layers=("a", "b"))
    steps = (*made.config.history[:1], History(created_by="ENV", empty_layer=True), *made.config.history[1:])
    config = ImageConfig("amd64", "linux", diff_ids=made.config.diff_ids, history=steps)
    sizes = dict(zip(chain_ids(made.config.diff_ids), (10, 20), strict=True))
    items = history(Image(made.id, made.manifest, config, (), made.names, (), 5, made.top), sizes.__getitem__)
    assert [(item["CreatedBy"], item["Size"]) for item in items] == [("step b", 20), ("ENV", 0), ("step a", 10)]
    assert (items[0]["Id"], items[1]["Id"]) == (made.id, "<missing>")
    assert items[0]["Tags"] == ["x:1"]


def test_layers_without_history_are_shown() -> None:
    made = image("x:1", layers=("a", "b"))
    config = ImageConfig("amd64", "linux", diff_ids=made.config.diff_ids)
    assert len(history(Image(made.id, made.manifest, config, (), (), (), 5, made.top), lambda _: 1)) == 2


def chains(made: Image) -> list[str]:
    return chain_ids(made.config.diff_ids)


def test_shared_sizes() -> None:
    one, two = image("one:1", layers=("base", "x")), image("two:1", layers=("base", "y"))
    sizes = {
        name: size for made in (one, two) for name, size in zip(chain_ids(made.config.diff_ids), (100, 1), strict=True)
    }
    assert shared_sizes([one, two], sizes.__getitem__) == {one.id: 100, two.id: 100}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T00:00:10.5Z", 10.5),
        ("1970-01-01T00:00:01.123456789Z", 1.123456789),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("9999-99-99T00:00:00Z", 0.0),
        ("soon", 0.0),
        (None, 0.0),
    ],
)
def test_times(text: str | None, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)
