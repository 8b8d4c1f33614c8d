"""Sources from the network: files for ADD, contexts by URL, git repositories. All lands in a folder of the build.

Sizes are bounded by what the disk has free; what was fetched is checked against ``--checksum`` before it is used.
"""

import asyncio
import email.utils
import hashlib
import os
import posixpath
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from scow.errors import DigestMismatch, InvalidArgument, NoSpace, System, Unsupported
from scow.fileio import no_space, write_all
from scow.web.client import HttpClient

#: Share of the free disk space a download may take, and seconds git may take.
SHARE = 0.9
GIT_SECONDS = 600.0

_GIT_HOSTS = re.compile(r"^(git://|git@|github\.com/|https?://[^?#]+\.git(#|$))")
_CHECKSUM = re.compile(r"^sha256:[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class Download:
    """A fetched file: where it lies and what it is called."""

    path: Path
    name: str


def is_url(text: str) -> bool:
    """Whether a source is to be fetched by HTTP."""
    return text.lower().startswith(("http://", "https://"))


def is_git(text: str) -> bool:
    """Whether a source or context is a git repository."""
    return bool(_GIT_HOSTS.match(text)) or text.lower().startswith("ssh://")


async def download(url: str, folder: Path, checksum: str = "") -> Download:
    """Fetch `url` into `folder`; the file has mode 0600 and the server's time of modification.

    Raises:
        InvalidArgument: a malformed URL or checksum, or the server says no.
        DigestMismatch: other bytes than `checksum` promised.
        NoSpace: it does not fit the disk.
        Unavailable: the server cannot be reached.
    """
    if checksum and not _CHECKSUM.match(checksum):
        raise InvalidArgument(f"invalid checksum {checksum!r}: expected sha256:<64 hex digits>")
    client = HttpClient(peer_name="server")
    try:
        async with await client.request("GET", url) as answer:
            if answer.status != 200:
                raise InvalidArgument(f"cannot fetch {_shown(url)}: the server answered with status {answer.status}")
            name = _file_name(url, answer.headers.get("content-disposition", ""))
            path = folder / name
            digest = await _save(answer.stream(), path)
            _set_time(path, answer.headers.get("last-modified", ""))
    finally:
        await client.close()
    if checksum and checksum != f"sha256:{digest}":
        raise DigestMismatch(checksum, f"sha256:{digest}", _shown(url))
    return Download(path, name)


async def _save(stream: AsyncIterator[bytes], path: Path) -> str:
    digest = hashlib.sha256()
    space = os.statvfs(path.parent)
    room = int(space.f_bavail * space.f_frsize * SHARE)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        async for piece in stream:
            room -= len(piece)
            if room < 0:
                raise NoSpace("the download is larger than the disk has free: remove images or containers and retry")
            digest.update(piece)
            try:
                write_all(fd, piece)
            except OSError as error:
                raise no_space(error, path) from error
    finally:
        os.close(fd)
    return digest.hexdigest()


def _set_time(path: Path, modified: str) -> None:
    """Last-Modified, else 1970: the time of the download would make every image different."""
    when = 0.0
    if modified:
        try:
            when = max(0.0, email.utils.parsedate_to_datetime(modified).timestamp())
        except (ValueError, TypeError, OverflowError):
            when = 0.0
    os.utime(path, (when, when))


def _file_name(url: str, disposition: str) -> str:
    """The name of what a URL leads to; a server's suggestion is heard if it is a plain name."""
    match = re.search(r'filename="?([^";]+)"?', disposition)
    for name in (match.group(1).strip() if match else "", posixpath.basename(unquote(urlsplit(url).path))):
        if name and name not in (".", "..") and "/" not in name and "\0" not in name and len(name.encode()) <= 255:
            return name
    raise InvalidArgument(f"cannot determine filename for source {_shown(url)}: its path ends in a slash")


def _shown(url: str) -> str:
    """The URL without what may be a password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


@dataclass(frozen=True, slots=True)
class GitSource:
    """``repository#ref:folder``."""

    repository: str
    ref: str
    folder: str


def parse_git(text: str) -> GitSource:
    """A git reference as Docker writes it.

    Raises:
        InvalidArgument: it could be read as an option of git, or the folder leads out.
    """
    repository, _, fragment = text.partition("#")
    if repository.startswith("github.com/"):
        repository = f"https://{repository}"
    ref, _, folder = fragment.partition(":")
    if repository.startswith("-") or ref.startswith("-"):
        raise InvalidArgument(f"invalid git source {text!r}: neither repository nor ref may begin with a dash")
    folder = posixpath.normpath("/" + folder).lstrip("/")
    return GitSource(repository, ref or "HEAD", folder)


async def clone(text: str, folder: Path, keep_git_dir: bool) -> Path:
    """Fetch one commit of a git repository into `folder`; the path of the part that was asked for.

    Raises:
        Unsupported: there is no git on this machine.
        System: git failed; its last words are in the text.
    """
    git = shutil.which("git")
    if git is None:
        raise Unsupported(
            f"{text.partition('#')[0]} is a git repository and git is not installed here: install git, or send the "
            "files as build context"
        )
    source = parse_git(text)
    await _git(git, folder, "init", "--quiet")
    await _git(git, folder, "remote", "add", "origin", source.repository)
    await _git(git, folder, "fetch", "--quiet", "--depth", "1", "origin", source.ref)
    await _git(git, folder, "checkout", "--quiet", "FETCH_HEAD")
    if not keep_git_dir:
        await asyncio.to_thread(shutil.rmtree, folder / ".git")
    found = folder / source.folder
    if not found.is_dir() or not found.resolve().is_relative_to(folder.resolve()):
        raise InvalidArgument(f"there is no folder {source.folder!r} in {source.repository} at {source.ref}")
    return found


async def _git(git: str, folder: Path, *arguments: str) -> None:
    # No configuration but our own: a repository's hooks, filters and transports must not run programs here.
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "HOME": "/nonexistent",
    }
    process = await asyncio.create_subprocess_exec(
        git, *arguments, cwd=folder, env=environment,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(GIT_SECONDS):
            _, words = await process.communicate()
    except TimeoutError:
        raise System(f"git {arguments[0]} took longer than {GIT_SECONDS:.0f} seconds") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        last = words.decode("utf-8", "replace").strip()[-500:]
        raise System(f"git {arguments[0]} failed: {last or f'exit code {process.returncode}'}")
