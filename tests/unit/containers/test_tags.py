"""Log tags as Docker's templates make them."""

import pytest

from scow.containers.tags import check, render
from scow.errors import InvalidArgument

FIELDS = {
    "ID": "0123456789ab",
    "Name": "web",
    "ImageName": "nginx:1",
    "DaemonName": "scow",
    "ContainerLabels": {"app": "Shop"},
}


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "web"),
        ("{{ .ImageName }}/{{.Name}}/{{- .ID -}}", "nginx:1/web/0123456789ab"),
        ("{{upper .Name}}-{{.Name | title}}", "WEB-Web"),
        ('{{index .ContainerLabels "app" | lower}}{{index .ContainerLabels "none"}}', "shop"),
        ("{{.ContainerLabels}}", "map[app:Shop]"),
        ("{{json .Name}}", '"web"'),
    ],
)
def test_tags(text, tag):
    check(text)
    assert render(text, FIELDS) == tag


@pytest.mark.parametrize(
    "text", ["{{.Nothing}}", "{{Name}}", "{{.Name | shout}}", "{{.Name", "{{}}", "{{if .Name}}x{{end}}"]
)
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(InvalidArgument, match="log-opt tag"):
        check(text)
