"""System call numbers every architecture shares (424 and above), and the notation of the number tables.

A table is text: a number starts a run, each following name has the next number. Tables are facts of the kernel's
``unistd.h`` files, kept in step with Linux 6.19; a newer call is added to the end of `SHARED`.
"""


def expand(text: str) -> dict[str, int]:
    """Names and numbers of a table in run notation; a later line may give a second name to a number."""
    numbers: dict[str, int] = {}
    number = 0
    for word in text.split():
        if word[0].isdigit():
            number = int(word, 0)
        else:
            numbers[word] = number
            number += 1
    return numbers


SHARED = """
424 pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount
    fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr
    quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self
448 process_mrelease futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake futex_wait
    futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat
    getxattrat listxattrat removexattrat open_tree_attr file_getattr file_setattr listns
"""
