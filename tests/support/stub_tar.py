"""Archives and path descriptions as the archive calls give them."""

import base64
import io
import json
import tarfile
from collections.abc import Mapping


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of names and contents; a name that ends in a slash is a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mode = 0o755 if name.endswith("/") else 0o644
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


class PathStat:
    """``X-Docker-Container-Path-Stat``."""

    def __init__(self, name: str, folder: bool = False) -> None:
        value = {"name": name, "size": 0, "mode": (1 << 31 if folder else 0) | 0o755, "mtime": "", "linkTarget": ""}
        self.headers = {"X-Docker-Container-Path-Stat": base64.b64encode(json.dumps(value).encode()).decode()}
