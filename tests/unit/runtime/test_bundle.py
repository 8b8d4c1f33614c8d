"""Configs from outside are checked before anything is done with them."""

import json

import pytest

from scow.errors import InvalidArgument, NotFound, Unsupported
from scow.runtime.bundle import example, load, root_path


def bundle(tmp_path, change):
    spec = example()
    change(spec)
    (tmp_path / "config.json").write_text(json.dumps(spec))
    return str(tmp_path)


def test_the_example_is_accepted_and_default_devices_stay_usable(tmp_path):
    spec = load(bundle(tmp_path, lambda spec: None))
    rules = spec["linux"]["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"} in rules
    assert {"allow": True, "type": "c", "major": 136, "access": "rwm"} in rules


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda spec: spec.pop("ociVersion"), InvalidArgument, "ociVersion"),
        (lambda spec: spec.update(ociVersion="2.0"), InvalidArgument, "ociVersion"),
        (lambda spec: spec.pop("root"), InvalidArgument, "root.path"),
        (lambda spec: spec.pop("linux"), Unsupported, "Linux"),
        (lambda spec: spec["process"].update(args=[]), InvalidArgument, "args"),
        (lambda spec: spec["process"].update(cwd="tmp"), InvalidArgument, "absolute"),
        (lambda spec: spec["linux"]["namespaces"].append({"type": "user"}), Unsupported, "user namespaces"),
        (lambda spec: spec["linux"]["namespaces"].append({"type": "pid"}), InvalidArgument, "twice"),
        (lambda spec: spec["linux"].update(namespaces=[]), InvalidArgument, "mount namespace"),
        (lambda spec: spec["mounts"].append({"source": "x"}), InvalidArgument, "destination"),
    ],
)
def test_what_cannot_be_run_is_refused(tmp_path, change, kind, words):
    with pytest.raises(kind, match=words):
        load(bundle(tmp_path, change))


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_config_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidArgument):
        load(str(tmp_path))


def test_a_missing_config_is_said_to_be_missing(tmp_path):
    with pytest.raises(NotFound, match=r"config\.json not found"):
        load(str(tmp_path))


def test_the_root_must_be_a_folder(tmp_path):
    with pytest.raises(InvalidArgument, match="not a folder"):
        root_path(str(tmp_path), {"root": {"path": "nowhere"}})
