"""How many files may be open: raised for the engine's own processes, left as it was for containers.

A running container costs the daemon two descriptors, and the usual soft limit is 1024. Programs in containers must not
notice: old ones close every number up to the soft limit before they start something.
"""

import resource

#: What to do where there are too few.
MORE_FILES = "stop containers, or raise LimitNOFILE= of the daemon's service (ulimit -Hn of the shell that starts it)"

_given: tuple[int, int] | None = None


def raise_limit() -> int:
    """Raise this process's soft limit to its hard one; how many files may be open from now on."""
    global _given
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        _given = (soft, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def given() -> tuple[int, int] | None:
    """(soft, hard) as they were before `raise_limit`; None if it changed nothing."""
    return _given
