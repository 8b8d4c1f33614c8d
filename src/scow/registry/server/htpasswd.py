"""Accounts from an htpasswd file, checked for HTTP Basic authentication.

Forms: bcrypt (``$2y$``, ``htpasswd -B``), SHA-crypt (``$5$``, ``$6$``), Apache's MD5 (``$apr1$``) and ``{SHA}``;
plain text and DES are refused when the file is read. bcrypt needs the package of that name, or a Python that still
has the ``crypt`` module. A password that was right is remembered as a keyed hash, so the slow forms cost their time
once, not at every request.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import importlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from scow.errors import InvalidArgument, System, Unauthorized
from scow.registry.server import shacrypt

#: Checked passwords remembered at a time.
MAX_REMEMBERED = 1024
#: Longest user name and password looked at.
MAX_CREDENTIALS = 4096
MAX_FILE = 4 << 20
#: Slow checks at a time, so that guessing does not take every thread.
CONCURRENT_CHECKS = 2


class Accounts:
    """Users and password hashes of one htpasswd file."""

    def __init__(self, hashes: dict[str, str]) -> None:
        self._hashes = hashes
        self._key = os.urandom(32)
        self._good: set[bytes] = set()
        self._slots = asyncio.Semaphore(CONCURRENT_CHECKS)

    @classmethod
    def read(cls, path: Path) -> "Accounts":
        """The accounts in the file at `path`.

        Raises:
            System: it cannot be read.
            InvalidArgument: a line is not ``user:hash``, or of a form that is not supported here; says which and what
                to do.
        """
        try:
            with path.open("rb") as file:
                text = file.read(MAX_FILE).decode("utf-8", "surrogateescape")
        except OSError as error:
            raise System(f"cannot read the accounts in {path}: {error.strerror}") from error
        hashes: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            user, colon, hashed = line.strip().partition(":")
            if not user or not colon:
                raise InvalidArgument(f"{path}, line {number}: expected user:hash, as htpasswd -B writes it")
            if _verifier(hashed) is None:
                raise InvalidArgument(f"{path}, line {number}: {_why(hashed)}")
            hashes[user] = hashed
        return cls(hashes)

    async def check(self, authorization: str) -> str:
        """The user an Authorization header proves to be.

        Raises:
            Unauthorized: no credentials, or wrong ones.
        """
        user, password = _credentials(authorization)
        known = user in self._hashes
        # A name that does not exist takes as long as one that does: the time must not tell them apart.
        hashed = self._hashes[user] if known else next(iter(self._hashes.values()), "")
        seal = hmac.digest(self._key, f"{user}\0{hashed}\0{password}".encode("utf-8", "surrogateescape"), "sha256")
        if known and seal in self._good:
            return user
        verify = _verifier(hashed)
        async with self._slots:
            if verify is None or not await asyncio.to_thread(verify, password, hashed) or not known:
                raise Unauthorized("authentication required")
        if len(self._good) >= MAX_REMEMBERED:
            self._good.clear()
        self._good.add(seal)
        return user


def _credentials(authorization: str) -> tuple[str, str]:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "basic" and len(value) <= MAX_CREDENTIALS:
        try:
            user, colon, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Unauthorized("authentication required") from None
        if colon:
            return user, password
    raise Unauthorized("authentication required")


Verify = Callable[[str, str], bool]


def _verifier(hashed: str) -> Verify | None:
    """The check for a hash's form; None when this Python cannot check it."""
    if hashed.startswith("{SHA}"):
        return _sha1
    if hashed.startswith("$apr1$"):
        return lambda password, known: hmac.compare_digest(shacrypt.apr1(password, known), known)
    if hashed.startswith(("$5$", "$6$")):
        return lambda password, known: hmac.compare_digest(shacrypt.sha_crypt(password, known), known)
    if hashed.startswith(("$2a$", "$2b$", "$2y$")):
        return _bcrypt()
    return None


def _why(hashed: str) -> str:
    if hashed.startswith("$2"):
        return "this is a bcrypt hash: install the bcrypt package, or write the line anew with htpasswd -5"
    return "this form of password hash is not supported: write the line anew with htpasswd -5 or -B"


def _sha1(password: str, hashed: str) -> bool:
    digest = base64.b64encode(hashlib.sha1(password.encode(), usedforsecurity=False).digest()).decode()
    return hmac.compare_digest("{SHA}" + digest, hashed)


def _bcrypt() -> Verify | None:
    """bcrypt from its package, else from the C library by way of ``crypt``, which Python 3.13 dropped."""
    try:
        package = importlib.import_module("bcrypt")
    except ImportError:
        return _crypt()
    return lambda password, known: bool(package.checkpw(password.encode()[:72], known.encode()))


def _crypt() -> Verify | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module = importlib.import_module("crypt")
    except ImportError:
        return None
    probe = module.crypt("probe", "$2y$04$abcdefghijklmnopqrstuu")
    if not probe or not probe.startswith("$2y$04$"):
        return None
    return lambda password, known: hmac.compare_digest(module.crypt(password, known) or "", known)
