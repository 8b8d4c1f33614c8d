"""Go's text/template; the expected texts are those of Go (checked against Docker's client where it is installed)."""

from typing import Any

import pytest

from scow.cli.template import Template
from scow.cli.template_functions import TemplateError, structure, untyped

VALUE = {
    "Id": "abc",
    "Name": "/web",
    "Number": 5,
    "Ratio": 1.5,
    "Nothing": None,
    "Labels": {"b": "2", "a": "1"},
    "List": ["x", "y"],
    "Empty": [],
    "Yes": True,
    "State": {"Status": "running", "Pid": 12},
    "Ports": {"80/tcp": [{"HostPort": "8080"}], "443/tcp": None},
    "HostConfig": {"LogConfig": {"Type": "local", "Config": {"max-size": "1m"}}, "Binds": None, "Init": None},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain {{.Name}} text", "plain /web text"),
        ("{{.State.Status}} {{.State.Pid}}", "running 12"),
        ("{{.Labels}} {{.List}} {{.State}}", "map[a:1 b:2] [x y] {running 12}"),
        ("{{.Labels.a}}{{.Labels.none}}|{{index .Labels \"none\"}}|", "1<no value>||"),
        ("{{.HostConfig.LogConfig}} {{.HostConfig.Binds}} {{.HostConfig.Init}}", "{local map[max-size:1m]} [] <nil>"),
        ("{{json .HostConfig.Binds}} {{json .Labels}} {{json .Ratio}}", 'null {"a":"1","b":"2"} 1.5'),
        ("{{.Ratio}} {{.Yes}} {{.Number}}", "1.5 true 5"),
        ("a {{- 1 -}} b {{- \"x\" }}", "a1bx"),
        ("{{/* c */}}x{{- /* d */ -}} y", "xy"),
        ("{{if .Empty}}a{{else if eq .Number 5}}b{{else}}c{{end}}", "b"),
        ("{{if not .Yes}}a{{end}}{{with .State}}{{.Pid}}{{end}}{{with .Empty}}x{{else}}y{{end}}", "12y"),
        ("{{range .List}}<{{.}}>{{end}}{{range .Empty}}x{{else}}none{{end}}", "<x><y>none"),
        ("{{range $i, $v := .List}}{{$i}}={{$v}};{{end}}", "0=x;1=y;"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ("{{range .List}}{{if eq . \"y\"}}{{break}}{{end}}{{.}}{{end}}", "x"),
        ("{{range .List}}{{if eq . \"x\"}}{{continue}}{{end}}{{.}}{{end}}", "y"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{range $p, $c := .Ports}}{{$p}}:{{if $c}}{{(index $c 0).HostPort}}{{end}} {{end}}", "443/tcp: 80/tcp:8080 "),
        ("{{$x := .Number}}{{$x = 7}}{{$x}} {{$.Name}}", "7 /web"),
        ("{{with $y := .State}}{{$y.Status}}{{end}}", "running"),
        ("{{.Name | upper | printf \"%s!\"}}", "/WEB!"),
        ("{{join .List \",\"}} {{join (split \"a-b\" \"-\") \"+\"}}", "x,y a+b"),
        ("{{lower \"AB\"}}{{title \"ab cd\"}}{{truncate \"abcdef\" 3}}{{pad \"x\" 1 2}}|", "abAb Cdabc x  |"),
        ("{{len .List}}{{len .Name}}{{len .Labels}} {{slice .Name 1 3}} {{index .List 1}}", "242 we y"),
        ("{{eq 1 2 1}}{{ne 1 2}}{{lt 1 2}}{{le 2 2}}{{gt \"b\" \"a\"}}{{ge 1 2}}", "truetruetruetruetruefalse"),
        ("{{and .Yes .Number}} {{or .Empty .Name}} {{and .Empty .Nope}}", "5 /web []"),
        ("{{print 1 2 \"x\" 3}}|{{println 1 \"x\"}}|", "1 2x3|1 x\n|"),
        ("{{printf \"%5d|%-5s|%05d|%q|%v|%x|%t|%.2f|%T|%%\" 3 \"a\" 7 \"q\" .List 255 true 1.5 1}}",
         '    3|a    |00007|"q"|[x y]|ff|true|1.50|int|%'),
        ("{{printf \"%d %s\" \"x\"}}", "%!d(string=x) %!s(MISSING)"),
        ("{{html \"<a>\"}} {{urlquery \"a b&c\"}} {{js \"it's\"}}", "&lt;a&gt; a+b%26c it\\'s"),
        ("{{define \"t\"}}[{{.}}]{{end}}{{template \"t\" .Name}}{{block \"b\" 1}}({{.}}){{end}}", "[/web](1)"),
        ("{{\"a\\tb\"}}{{`raw\\n`}}{{'a'}}", "a\tbraw\\n97"),
        ("{{true}} {{if nil}}x{{end}}", "true "),
    ],
)  # fmt: skip
def test_what_go_prints(text: str, expected: str) -> None:
    assert Template(text).execute(structure(VALUE)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{.Name", "unclosed action"),
        ("{{nope .Name}}", 'function "nope" not defined'),
        ("{{if .Yes}}x", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{$x}}", 'undefined variable "$x"'),
        ('{{"abc}}', "unterminated quoted string"),
        ("{{/* x", "unclosed comment"),
        ("{{(.Name}}", "unclosed left paren"),
        ("{{}}", "missing value for command"),
        ("{{if}}{{end}}", "missing value for if"),
        ("{{range $x := .List}}{{end}}{{$x}}", "undefined variable"),
        ("{{1a}}", "bad number syntax"),
        ("{{.Name @}}", "unexpected '@'"),
    ],
)
def test_what_cannot_be_parsed(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{.Nope}}", 'map has no entry for key "Nope"'),
        ("{{.Name.X}}", "can't evaluate field X in type string"),
        ("{{.HostConfig.Init.X}}", "nil pointer"),
        ("{{index .List 9}}", "index out of range"),
        ('{{index .List "a"}}', "cannot index slice"),
        ('{{lt 1 "a"}}', "incompatible types"),
        ("{{upper 5}}", "error calling upper"),
        ("{{len 5}}", "error calling len"),
        ("{{range .Yes}}{{end}}", "can't iterate"),
        ('{{template "none"}}', "not defined"),
        ('{{define "r"}}{{template "r"}}{{end}}{{template "r"}}', "maximum template depth"),
        ('{{printf "%99999d" 1}}', "out of range"),
        ('{{join .List}}{{truncate "x"}}', "error calling truncate"),
    ],
)
def test_what_cannot_be_executed(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(text).execute(structure(VALUE))
    assert message in str(caught.value)


def test_typed_values_have_gos_names_and_raw_ones_those_of_the_json() -> None:
    assert Template("{{.ID}}").execute(structure(VALUE)) == "abc"
    assert Template("{{.Id}} {{.Nothing}} {{.State}}").execute(untyped(VALUE)) == (
        "abc <no value> map[Pid:12 Status:running]"
    )
    for text, kind in (("{{.Id}}", structure), ("{{.ID}}", untyped)):
        with pytest.raises(TemplateError):
            Template(text).execute(kind(VALUE))


def test_nothing_of_python_can_be_reached() -> None:
    for name in ("__class__", "keys", "items", "__init__", "missing"):
        for value in (VALUE, [1], "x", 5):
            with pytest.raises(TemplateError):
                Template(f"{{{{.{name}}}}}").execute(structure(value))


def test_fields_left_out_when_empty_are_no_error() -> None:
    value: dict[str, Any] = {"State": {"Status": "created"}}
    assert Template("{{if .State.Health}}x{{else}}none{{end}}").execute(structure(value)) == "none"
    assert Template("{{.State.Health}}").execute(structure(value)) == "<nil>"
