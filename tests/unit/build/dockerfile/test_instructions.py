"""What instructions mean and which are refused, in Docker's words."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.build.dockerfile.instructions import (
    Arg,
    Command,
    Copy,
    Env,
    Healthcheck,
    Instruction,
    Label,
    OnBuild,
    Run,
    Volume,
    read,
    read_trigger,
)
from scow.build.dockerfile.lexer import DockerfileError
from scow.build.dockerfile.mounts import Mount


def one(text: str) -> Instruction:
    (stage,) = read(f"FROM a\n{text}\n".encode()).stages
    return stage.body[0]


def test_from_in_all_its_forms():
    found = read(b"ARG A=1\nFROM --platform=linux/arm64 img:1 AS Base\nfrom base\nFROM scratch as x-1.y_z\n").stages
    assert [(stage.start.base, stage.name, stage.start.platform) for stage in found] == [
        ("img:1", "base", "linux/arm64"), ("base", "", ""), ("scratch", "x-1.y_z", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words", "shell"),
    [
        ('CMD ["a", "b c"]', ("a", "b c"), False),
        ("CMD a  b", ("a  b",), True),
        ("CMD ['a']", ("['a']",), True),
        ('CMD ["a" "b"]', ('["a" "b"]',), True),
        ("CMD [1]", ("[1]",), True),
        ("CMD []", (), False),
        ("cmd [ \"a\" ]", ("a",), False),
        ("ENTRYPOINT", (), False),
    ],
)  # fmt: skip
def test_exec_and_shell_forms(text: str, words: tuple[str, ...], shell: bool):
    found = one(text)
    assert isinstance(found, Command)
    assert (found.words, found.shell) == (words, shell)


def test_pairs():
    env = one("ENV a=1 b=\"x y\" c='z' d=e\\ f")
    assert isinstance(env, Env)
    assert env.pairs == (("a", "1"), ("b", '"x y"'), ("c", "'z'"), ("d", "e\\ f"))
    old = one("ENV name  the whole = rest")
    assert isinstance(old, Env)
    assert old.pairs == (("name", "the whole = rest"),)
    label = one('LABEL "a b"="c d" e=')
    assert isinstance(label, Label)
    assert label.pairs == (('"a b"', '"c d"'), ("e", ""))
    arg = one("ARG A B=1 C=\"2 3\"")  # fmt: skip
    assert isinstance(arg, Arg)
    assert arg.pairs == (("A", None), ("B", "1"), ("C", '"2 3"'))


def test_copy_and_add_flags():
    found = one("COPY --from=x --chown=a:b --chmod=755 --link --parents --exclude=*.a --exclude=*.b s1 s2 d/")
    assert isinstance(found, Copy)
    assert (found.origin, found.chown, found.chmod, found.link, found.parents) == ("x", "a:b", "755", True, True)
    assert (found.excludes, found.sources, found.target, found.add) == (("*.a", "*.b"), ("s1", "s2"), "d/", False)
    add = one('ADD --checksum=sha256:1 --keep-git-dir --link=false --unpack ["a b", "c"]')
    assert isinstance(add, Copy)
    assert (add.checksum, add.keep_git_dir, add.link, add.unpack, add.add) == ("sha256:1", True, False, True, True)
    assert (add.sources, add.target) == (("a b",), "c")


def test_run_flags():
    found = one('RUN --network=none --security=insecure --mount=target=/a --mount="type=tmpfs,dst=/t,size=1g" x --y')
    assert isinstance(found, Run)
    assert (found.network, found.security, found.command) == ("none", "insecure", ("x --y",))
    assert found.mounts == (
        Mount("bind", "/a", readonly=True),
        Mount("tmpfs", "/t", size=1 << 30),
    )


def test_mounts_in_detail():
    found = one(
        "RUN --mount=type=cache,id=i,target=/c,ro,from=s,source=/x,sharing=locked,mode=0700,uid=1,gid=2 "
        "--mount=type=bind,target=/b,rw --mount=type=secret,id=k,env=K,required x"
    )
    assert isinstance(found, Run)
    cache, bind, secret = found.mounts
    assert cache == Mount("cache", "/c", "/x", "s", True, "i", "locked", 0o700, 1, 2)
    assert not bind.readonly
    assert (secret.id, secret.env, secret.required) == ("k", "K", True)


def test_healthchecks():
    found = one('HEALTHCHECK --interval=1m --timeout=1500ms --retries=5 cmd ["a", "b"]')
    assert isinstance(found, Healthcheck)
    assert (found.test, found.interval, found.timeout) == (("CMD", "a", "b"), 60 * 10**9, 1500 * 10**6)
    assert found.retries == 5
    none = one("HEALTHCHECK none")
    assert isinstance(none, Healthcheck)
    assert none.test == ("NONE",)


def test_volumes_in_both_forms():
    for text in ("VOLUME /a /b", 'VOLUME ["/a", "/b"]'):
        found = one(text)
        assert isinstance(found, Volume)
        assert found.paths == ("/a", "/b")


def test_onbuild_keeps_its_trigger_as_written():
    found = one("ONBUILD  copy --from=x a b")
    assert isinstance(found, OnBuild)
    assert found.trigger == "copy --from=x a b"
    assert isinstance(read_trigger("RUN <<E\nx\nE", 5), Run)
    with pytest.raises(DockerfileError, match=r"line 5: the ONBUILD trigger 'NOPE x' of the base image: unknown"):
        read_trigger("NOPE x", 5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("RUNN x", "unknown instruction: RUNN (did you mean RUN?)"),
        ("xyzzy", "unknown instruction: xyzzy"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a AS 1x", 'invalid name for build stage: "1x", name can\'t start with a number or contain symbols'),
        ("RUN", "RUN requires at least one argument"),
        ("RUN --network=x a", 'invalid network mode: "x", use default, none or host'),
        ("RUN --mount=type=nope,target=/x a", 'unsupported mount type "nope"'),
        ("RUN --mount=type=cache a", "invalid mount of type cache: target must be set"),
        ("RUN --mount=type=cache,target=/a,sharing=x a", 'unsupported sharing value "x"'),
        ("RUN --mount=type=tmpfs,target=/a,id=x a", "unexpected key 'id' for mount type 'tmpfs'"),
        ("RUN --mount=type=bind,what=x,target=/a a", "unexpected key 'what' in 'what=x'"),
        ("RUN --mount=target a", "invalid field 'target' must be a key=value pair"),
        ("RUN --mount=target=/a,from=$X a", "'from' doesn't support variable expansion"),
        ("RUN --mount=type=cache,target=/a,mode=9 a", "invalid value 9 for mode"),
        ("COPY", "COPY requires at least two arguments"),
        ("ADD x", "ADD requires at least two arguments, but only one was provided"),
        ("COPY --form=x a b", "unknown flag: --form (did you mean from?)"),
        ("COPY --from a b", "missing a value on flag: from"),
        ("COPY --from=a --from=b c d", "duplicate flag specified: from"),
        ("COPY --link=x a b", "expecting boolean value for flag link, not: x"),
        ("ADD --from=a b c", "unknown flag: --from"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("USER", "USER requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV =b", "ENV names can not be blank"),
        ("LABEL a=b c", 'Syntax error - can\'t find = in "c". Must be of the form: name=value'),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =b", "ARG names can not be blank"),
        ("SHELL bash", "SHELL requires the arguments to be in JSON form"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK what x", 'Unknown type "WHAT" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK --interval=1us CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --interval=soon CMD x", "invalid duration 'soon'"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD RUNN x", "unknown instruction: RUNN (did you mean RUN?)"),
        ("ONBUILD COPY x", "COPY requires at least two arguments"),
    ],
)  # fmt: skip
def test_refusals_name_line_and_reason(text: str, sentence: str):
    with pytest.raises(DockerfileError) as refused:
        read(f"FROM a\n\n{text}\n".encode())
    assert str(refused.value).startswith(f"dockerfile parse error on line 3: {sentence}")


def test_something_must_come_from_somewhere():
    for text in ("RUN x", "ARG a\nRUN x", "ARG a"):
        with pytest.raises(DockerfileError, match="no build stage in current context"):
            read(text.encode())


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str):
    with contextlib.suppress(DockerfileError):
        read(text.encode("utf-8", "surrogatepass"))
