"""Docker's default seccomp policy as data: which system calls a container may make, and on what condition.

Everything that is not named here fails with EPERM; calls newer than the newest one named, with ENOSYS. The lists are by
theme, not by number; a name an architecture does not have means nothing there. Old 32-bit spellings stand beside
their successors. The facts are Docker's (moby profiles/seccomp): the tests compare them.
"""

#: Always allowed. First the multiplexers of i386, so that no later rule on a socket is applied to them blindly.
ALLOWED = {
    "multiplexers (their arguments lie in memory, where a filter cannot look)": "ipc socketcall",
    "files: open and close": """
        access close close_range creat faccessat faccessat2 memfd_create memfd_secret open openat openat2
        name_to_handle_at""",
    "files: read and write": """
        _llseek copy_file_range fadvise64 fadvise64_64 arm_fadvise64_64 fallocate ftruncate ftruncate64 lseek pread64
        preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile sendfile64 splice tee truncate truncate64
        vmsplice write writev""",
    "files: to the disk": """
        cachestat fdatasync fsync msync sync sync_file_range sync_file_range2 arm_sync_file_range syncfs""",
    "files: what they are": """
        fstat fstat64 fstatat64 fstatfs fstatfs64 lstat lstat64 newfstatat stat stat64 statfs statfs64 statx umask utime
        utimensat utimensat_time64 utimes futimesat""",
    "files: owners and modes": """
        chmod chown chown32 fchmod fchmodat fchmodat2 fchown fchown32 fchownat lchown lchown32""",
    "files: extended attributes": """
        fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr
        lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat""",
    "folders and names": """
        chdir fchdir getcwd getdents getdents64 link linkat mkdir mkdirat mknod mknodat readlink readlinkat rename
        renameat renameat2 rmdir symlink symlinkat unlink unlinkat""",
    "looking at mounts": "listmount statmount",
    "descriptors": "dup dup2 dup3 fcntl fcntl64 flock ioctl pipe pipe2",
    "waiting for descriptors": """
        _newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
        eventfd eventfd2 poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4""",
    "being told of changes": """
        fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch""",
    "asynchronous I/O (the old interface; io_uring is not allowed)": """
        io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit""",
    "sockets": """
        accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64
        recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketpair""",
    "memory": """
        brk madvise map_shadow_stack membarrier mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal munlock
        munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages""",
    "processes and threads": """
        capget capset execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getpgid getpgrp getpid
        getppid getpriority getrandom getrlimit getrusage getsid gettid ioprio_get ioprio_set kill pause pidfd_open
        pidfd_send_signal prctl prlimit64 restart_syscall rseq set_robust_list set_thread_area set_tid_address setpgid
        setpriority setrlimit setsid sysinfo tgkill times tkill ugetrlimit uname uretprobe vfork wait4 waitid
        waitpid""",
    "architectures' own": """
        arch_prctl breakpoint cacheflush modify_ldt set_tls""",
    "users and groups": """
        getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 getresuid
        getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
        setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32""",
    "signals": """
        rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
        rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn""",
    "locks": "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake",
    "scheduling": """
        sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
        sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
        sched_setscheduler sched_yield""",
    "System V and POSIX messages, semaphores, shared memory": """
        mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
        mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt
        shmget""",
    "clocks and timers": """
        adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
        clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
        timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
        timerfd_gettime64 timerfd_settime timerfd_settime64""",
    "giving rights up": "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp",
    "tracing one's own kind (safe since Linux 4.8, when a tracer stopped being able to dodge filters)": """
        process_vm_readv process_vm_writev ptrace""",
}

#: Allowed to containers that hold the capability.
BY_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
        lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
        sethostname setns syslog umount umount2 unshare""",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

#: socket(2): address families that reach past the container's namespaces or into rarely audited code (socket.h).
FORBIDDEN_FAMILIES = {"AF_ALG": 38, "AF_VSOCK": 40}

#: personality(2): execution domains (personality.h) and the question "which is it".
PERSONALITIES = {
    "PER_LINUX": 0x0,
    "PER_LINUX32": 0x8,
    "UNAME26": 0x20000,
    "PER_LINUX32 | UNAME26": 0x20008,
    "query": 0xFFFFFFFF,
}

#: clone(2) without CAP_SYS_ADMIN: no new namespaces (CLONE_NEWNS CGROUP UTS IPC USER PID NET).
NAMESPACE_FLAGS = 0x7E020000

#: clone3(2) hides its flags in memory; ENOSYS makes the C library fall back to clone(2).
HIDDEN_FLAGS = "clone3"
