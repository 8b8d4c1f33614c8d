import pytest

from scow.containers.changes import apply
from scow.errors import InvalidArgument


def test_every_instruction():
    config = {"Env": ["A=1", "B=2"], "Labels": {"old": "1"}, "WorkingDir": "/srv"}
    lines = [
        'CMD ["a", "b c"]', "entrypoint run this", 'ENV A=3 C="x y"', "ENV D four words", "EXPOSE 80 53/udp",
        'LABEL "k"="v w"', "USER app:app", "VOLUME /a /b", 'VOLUME ["/c"]', "WORKDIR sub", "STOPSIGNAL QUIT",
        "ONBUILD RUN x", "HEALTHCHECK --interval=5s --retries=2 CMD curl localhost", "# nothing", "",
    ]  # fmt: skip
    found = apply(config, lines)
    assert found == {
        "Env": ["B=2", "A=3", "C=x y", "D=four words"],
        "Labels": {"old": "1", "k": "v w"},
        "WorkingDir": "/srv/sub",
        "Cmd": ["a", "b c"],
        "Entrypoint": ["/bin/sh", "-c", "run this"],
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "User": "app:app",
        "Volumes": {"/a": {}, "/b": {}, "/c": {}},
        "StopSignal": "QUIT",
        "OnBuild": ["RUN x"],
        "Healthcheck": {"Interval": 5_000_000_000, "Retries": 2, "Test": ["CMD-SHELL", "curl localhost"]},
    }
    assert config["Env"] == ["A=1", "B=2"]


def test_several_lines_in_one():
    assert apply({}, ["USER a\nENV X=1"]) == {"User": "a", "Env": ["X=1"]}


@pytest.mark.parametrize(
    "line",
    [
        "RUN x", "COPY a b", "CMD", "ENV A", "ENV A=1 B", "EXPOSE http", "STOPSIGNAL FOO", 'LABEL a="b', "HEALTHCHECK",
        "HEALTHCHECK --colour=red CMD x", "HEALTHCHECK MAYBE", "HEALTHCHECK --retries=x CMD y",
        "HEALTHCHECK --interval=x CMD y",
    ],
)  # fmt: skip
def test_refused(line):
    with pytest.raises(InvalidArgument):
        apply({}, [line])
