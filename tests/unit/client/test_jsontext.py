"""JSON without the json package, compared with it."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.client import jsontext
from scow.errors import System

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(VALUES)
def test_what_is_written_reads_back(value: Any) -> None:
    assert jsontext.loads(jsontext.dumps(value)) == value
    assert json.loads(jsontext.dumps(value, indent="    ")) == value


@given(VALUES)
def test_it_reads_what_json_writes(value: Any) -> None:
    assert jsontext.loads(json.dumps(value).encode()) == value


def test_layout_is_that_of_docker_inspect() -> None:
    value = [{"A": [], "B": {}, "C": ["<é>", 1.0], "D": None}]
    shown = (
        '[\n    {\n        "A": [],\n        "B": {},\n        "C": [\n            "<é>",\n            1\n        ],\n'
    )
    assert jsontext.dumps(value, indent="    ") == shown + '        "D": null\n    }\n]'


@pytest.mark.parametrize("text", ["", "{", "[1,", "nul", '{"a" 1}', "[" * 100_000, "\x00"])
def test_what_is_not_json_is_an_error_of_the_daemon(text: str) -> None:
    with pytest.raises(System, match="no valid JSON"):
        jsontext.loads(text)


def test_one_value_at_a_time() -> None:
    assert jsontext.scan_one('{"a":1} {"b":2}') == ({"a": 1}, '{"b":2}')
    with pytest.raises(System, match="after a JSON value"):
        jsontext.loads("1 2")


def test_it_does_not_import_json() -> None:
    code = "import sys; from scow.client import jsontext; jsontext.loads('{}'); print('json' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
