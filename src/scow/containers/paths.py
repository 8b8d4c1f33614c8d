"""Paths inside a container as text. Pure: nothing here asks a file system."""


def clean(path: str) -> str:
    """`path` made absolute, without ".", ".." and doubled slashes, as Go's filepath.Join("/", path) does."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def split(path: str) -> tuple[str, str]:
    """(folder, name) of a clean path; of "/" ("/", "/")."""
    folder, _, name = path.rpartition("/")
    return folder or "/", name or "/"


def below(path: str, folder: str) -> str | None:
    """The rest of clean `path` below clean `folder` ("" for the folder itself), None if it is not there."""
    if path == folder or folder == "/":
        return path.removeprefix(folder).lstrip("/")
    return path[len(folder) + 1 :] if path.startswith(f"{folder}/") else None


def rests_on(path: str, suffixes: tuple[str, ...] = ("/", "/.")) -> bool:
    """Whether the user wrote `path` so that its last symlink is to be followed: "dir/" or "dir/."."""
    return path.endswith(suffixes) or path == "."
