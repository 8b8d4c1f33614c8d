"""Run nft text: through libnftables in this process, or through the ``nft`` program where the library is missing.

One text is one transaction: all of it is in force or nothing is. The rules live in the network namespace of the thread
that opens the `Nft`; use one object from one thread.
"""

import ctypes
import errno
import os

from scow.errors import System

_LIBRARIES = ("libnftables.so.1", "libnftables.so")
#: Where nft lies when the daemon's PATH lacks the sbin folders.
_SBIN = "/usr/sbin:/sbin:/usr/local/sbin"
_INSTALL = (
    "install the package nftables (or libnftables1): without it containers have no address translation, "
    "and published ports are served by a slower userland proxy"
)


def available() -> str | None:
    """None where nft text can be run here; otherwise one sentence saying what is missing and what to install."""
    try:
        with Nft() as nft:
            nft.run("list tables")
    except System as error:
        return str(error)
    return None


class Nft:
    """A way to hand nft text to the kernel."""

    __slots__ = ("_context", "_library", "_program")

    def __init__(self) -> None:
        """Open the library, or find the program.

        Raises:
            System: neither is installed; says what to install.
        """
        self._context: int | None = None
        self._program = ""
        self._library = _library()
        if self._library is not None:
            self._context = self._library.nft_ctx_new(0)
            if self._context:
                self._library.nft_ctx_buffer_output(self._context)
                self._library.nft_ctx_buffer_error(self._context)
                return
        self._program = find_program()
        if not self._program:
            raise System(f"nftables is missing: {_INSTALL}")

    def close(self) -> None:
        """Free the library's context; closing twice is fine."""
        if self._context and self._library is not None:
            self._library.nft_ctx_free(self._context)
        self._context = None

    def __enter__(self) -> "Nft":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, text: str) -> str:
        """Run one transaction and return what it prints.

        Raises:
            System: refused; the text is nft's first error line, and nothing was changed.
        """
        if self._context and self._library is not None:
            failed = self._library.nft_run_cmd_from_buffer(self._context, text.encode())
            output = self._library.nft_ctx_get_output_buffer(self._context)
            error = self._library.nft_ctx_get_error_buffer(self._context)
        else:
            failed, output, error = run_program(self._program, text.encode())
        if failed:
            raise System(f"nftables refused the rules: {_first_error(error)}")
        return (output or b"").decode("utf-8", "replace")


def find_program() -> str:
    """Path of the nft program, or "" where there is none."""
    for folder in f"{os.environ.get('PATH', '')}:{_SBIN}".split(":"):
        path = f"{folder}/nft"
        if folder.startswith("/") and os.access(path, os.X_OK):
            return path
    return ""


def run_program(program: str, text: bytes) -> tuple[int, bytes, bytes]:
    """Run ``nft -f -``: (exit status, standard output, standard error).

    The text and both outputs are memory files: no pipe can fill up, so there is nothing to pump.
    """
    files = [os.memfd_create(f"scow-nft-{name}", os.MFD_CLOEXEC) for name in ("in", "out", "err")]
    try:
        view = memoryview(text)
        while view:
            view = view[os.write(files[0], view) :]
        os.lseek(files[0], 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(files)]
        try:
            pid = os.posix_spawn(program, [program, "-f", "-"], {"LC_ALL": "C"}, file_actions=actions)
        except OSError as error:
            raise System(f"cannot run {program}: {error.strerror}") from error
        status = os.waitstatus_to_exitcode(_wait(pid))
        return status, os.pread(files[1], 1 << 20, 0), os.pread(files[2], 1 << 16, 0)
    finally:
        for fd in files:
            os.close(fd)


def _wait(pid: int) -> int:
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError as error:
        # Somebody set SIGCHLD to "ignore": the kernel reaped it and the answer is lost.
        raise System("cannot learn how nft ended: SIGCHLD is ignored in this process") from error


def _library() -> ctypes.CDLL | None:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_free.restype = None
        library.nft_ctx_free.argtypes = [ctypes.c_void_p]
        library.nft_run_cmd_from_buffer.restype = ctypes.c_int
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for call in (library.nft_ctx_buffer_output, library.nft_ctx_buffer_error):
            call.restype = ctypes.c_int
            call.argtypes = [ctypes.c_void_p]
        for call in (library.nft_ctx_get_output_buffer, library.nft_ctx_get_error_buffer):
            call.restype = ctypes.c_char_p
            call.argtypes = [ctypes.c_void_p]
        return library
    return None


def _first_error(error: bytes | None) -> str:
    lines = (error or b"").decode("utf-8", "replace").splitlines()
    line = next((line for line in lines if "rror" in line), lines[0] if lines else os.strerror(errno.EINVAL))
    return line.strip()[:400]
