"""Image names and platforms as typed → as calls take them. Pure, and imported where starting fast matters."""

from scow.client.credentials import domain_of


def split_tag(name: str) -> tuple[str, str]:
    """ "host:5000/a:b" → ("host:5000/a", "b"); "a@sha256:…" → ("a", "sha256:…"); no tag → ""."""
    if "@" in name:
        head, _, digest = name.partition("@")
        return (head.rpartition(":")[0] if ":" in head.rpartition("/")[2] else head), digest
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return head + slash + last, tag


def canonical(repository: str, tag: str) -> str:
    """The whole name, as pull prints it at its end: "docker.io/library/busybox:latest"."""
    domain = domain_of(repository)
    if domain == "docker.io":
        rest = repository.removeprefix("docker.io/")
        repository = f"docker.io/{rest if '/' in rest else f'library/{rest}'}"
    return f"{repository}{'@' if ':' in tag else ':'}{tag}"


def platform_json(text: str) -> str:
    """ "linux/arm64/v8" as the JSON object newer calls take; "" for none."""
    if not text:
        return ""
    from scow.client import jsontext

    names = ("os", "architecture", "variant")
    return jsontext.dumps(dict(zip(names, text.split("/"), strict=False)))
