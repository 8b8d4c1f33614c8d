"""Archives made in code: what a hostile or merely odd image would bring."""

import io
import tarfile
from typing import Any

Member = tuple[str, Any]


def tar(*members: tuple[Any, ...], form: int = tarfile.PAX_FORMAT, end: bool = True) -> io.BytesIO:
    """A tar of `members`: (name, kind or bytes, fields); kinds are dir, file, "->target", "=target", fifo, char.

    Fields are TarInfo attributes (mode, uid, mtime, pax_headers …).
    """
    out = io.BytesIO()
    archive = tarfile.TarFile(fileobj=out, mode="w", format=form)
    for name, what, *rest in members:
        info = tarfile.TarInfo(name)
        info.mode = 0o644
        content = b""
        if isinstance(what, bytes):
            content = what
            info.size = len(what)
        elif what == "dir":
            info.type, info.mode = tarfile.DIRTYPE, 0o755
        elif what == "fifo":
            info.type = tarfile.FIFOTYPE
        elif what == "char":
            info.type = tarfile.CHRTYPE
        elif what.startswith("->"):
            info.type, info.linkname = tarfile.SYMTYPE, what[2:]
        elif what.startswith("="):
            info.type, info.linkname = tarfile.LNKTYPE, what[1:]
        for key, value in (rest[0] if rest else {}).items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(content))
    if end:
        archive.close()
    out.seek(0)
    return out
