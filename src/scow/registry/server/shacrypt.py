"""Password hashes of the Unix world that are plain hashing: SHA-crypt (``$5$``, ``$6$``) and Apache's MD5 (``$apr1$``).

Written after Ulrich Drepper's "Unix crypt using SHA-256 and SHA-512" and the description of Apache's apr_md5; the
published test vectors are in the tests. Verification only needs to compute the hash anew with the salt and rounds of
the known one.
"""

import hashlib

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DEFAULT_ROUNDS = 5000
MIN_ROUNDS, MAX_ROUNDS = 1000, 1_000_000

_ORDER_256 = ((0, 10, 20), (21, 1, 11), (12, 22, 2), (3, 13, 23), (24, 4, 14), (15, 25, 5), (6, 16, 26), (27, 7, 17),
              (18, 28, 8), (9, 19, 29), (31, 30))  # fmt: skip
_ORDER_512 = ((0, 21, 42), (22, 43, 1), (44, 2, 23), (3, 24, 45), (25, 46, 4), (47, 5, 26), (6, 27, 48), (28, 49, 7),
              (50, 8, 29), (9, 30, 51), (31, 52, 10), (53, 11, 32), (12, 33, 54), (34, 55, 13), (56, 14, 35),
              (15, 36, 57), (37, 58, 16), (59, 17, 38), (18, 39, 60), (40, 61, 19), (62, 20, 41), (63,))  # fmt: skip
_ORDER_MD5 = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5), (11,))


def sha_crypt(password: str, setting: str) -> str:
    """The ``$5$``/``$6$`` hash of `password` with the salt and rounds of `setting` (a hash, or its front part).

    Rounds above `MAX_ROUNDS` are cut: a hostile file must not stop the server.
    """
    kind, rest = setting[1], setting[3:]
    algorithm = "sha256" if kind == "5" else "sha512"
    prefix, rounds = "", DEFAULT_ROUNDS
    if rest.startswith("rounds="):
        text, _, rest = rest.removeprefix("rounds=").partition("$")
        rounds = min(max(int(text) if text.isdigit() and len(text) < 10 else DEFAULT_ROUNDS, MIN_ROUNDS), MAX_ROUNDS)
        prefix = f"rounds={rounds}$"
    salt = rest.partition("$")[0][:16]
    digest = _sha_rounds(algorithm, password.encode(), salt.encode(), rounds)
    order = _ORDER_256 if kind == "5" else _ORDER_512
    return f"${kind}${prefix}{salt}${_encode(digest, order)}"


def _sha_rounds(algorithm: str, password: bytes, salt: bytes, rounds: int) -> bytes:
    def hashed(data: bytes) -> bytes:
        return hashlib.new(algorithm, data).digest()

    alternate = hashed(password + salt + password)
    width = len(alternate)
    first = password + salt + _repeat(alternate, len(password))
    bits = len(password)
    while bits:
        first += alternate if bits & 1 else password
        bits >>= 1
    digest = hashed(first)
    word = _repeat(hashed(password * len(password)), len(password))
    grain = _repeat(hashed(salt * (16 + digest[0])), len(salt))
    assert width in (32, 64)
    for number in range(rounds):
        data = word if number & 1 else digest
        if number % 3:
            data += grain
        if number % 7:
            data += word
        data += digest if number & 1 else word
        digest = hashed(data)
    return digest


def apr1(password: str, setting: str) -> str:
    """The ``$apr1$`` hash of `password` with the salt of `setting`."""
    salt = setting[6:].partition("$")[0][:8].encode()
    word = password.encode()

    def hashed(data: bytes) -> bytes:
        return hashlib.md5(data, usedforsecurity=False).digest()

    first = word + b"$apr1$" + salt + _repeat(hashed(word + salt + word), len(word))
    bits = len(word)
    while bits:
        first += b"\0" if bits & 1 else word[:1]
        bits >>= 1
    digest = hashed(first)
    for number in range(1000):
        data = word if number & 1 else digest
        if number % 3:
            data += salt
        if number % 7:
            data += word
        data += digest if number & 1 else word
        digest = hashed(data)
    return f"$apr1${salt.decode()}${_encode(digest, _ORDER_MD5)}"


def _repeat(data: bytes, length: int) -> bytes:
    return (data * (length // len(data) + 1))[:length]


def _encode(digest: bytes, order: tuple[tuple[int, ...], ...]) -> str:
    """Groups of up to three bytes, six bits a character, lowest first: crypt's own base 64."""
    text = []
    for group in order:
        value = 0
        for position in group:
            value = value << 8 | digest[position]
        for _ in range({3: 4, 2: 3, 1: 2}[len(group)]):
            text.append(_ALPHABET[value & 63])
            value >>= 6
    return "".join(text)
