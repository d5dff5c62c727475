"""The default system call filter: which calls a container may make, grouped by what they are for.

The set equals that of the reference engine's version 28 profile for amd64 and arm64 (and their 32-bit companions):
what is not named here fails with EPERM. A call that libseccomp or the architecture does not know is skipped.
Source: Docker engine security/seccomp documentation; the groups and the reasons are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

ALWAYS: dict[str, str] = {
    "files: open, read, write": """
        access close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64 fadvise64_64
        fallocate fcntl fcntl64 fdatasync flock fsync ftruncate ftruncate64 _llseek lseek open openat openat2
        pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile sendfile64 splice sync
        sync_file_range syncfs tee truncate truncate64 vmsplice write writev cachestat
    """,
    "files: names and attributes": """
        chdir chmod chown chown32 fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fgetxattr flistxattr
        fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 futimesat getcwd getdents getdents64 getxattr
        getxattrat lchown lchown32 lgetxattr link linkat listxattr listxattrat llistxattr lremovexattr lsetxattr
        lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat readlink readlinkat removexattr
        removexattrat rename renameat renameat2 rmdir setxattr setxattrat stat stat64 statfs statfs64 statx symlink
        symlinkat umask unlink unlinkat utime utimensat utimensat_time64 utimes
    """,
    "mounts: look only": "listmount statmount",
    "watching files": """
        fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
    """,
    "waiting for descriptors": """
        epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
        eventfd2 _newselect pipe pipe2 poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4
        timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
    """,
    "asynchronous I/O, the old kind": """
        io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit
    """,
    "devices": "ioctl ioprio_get ioprio_set",
    "memory": """
        brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2
        mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
    """,
    "processes": """
        execve execveat exit exit_group fork getpgid getpgrp getpid getppid getsid gettid getcpu kill pause
        pidfd_open pidfd_send_signal prctl process_mrelease restart_syscall setpgid setsid set_tid_address tgkill
        tkill vfork wait4 waitid waitpid uretprobe
    """,
    "threads": """
        futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list get_thread_area rseq
        set_robust_list set_thread_area
    """,
    "scheduling and limits": """
        getpriority getrlimit getrusage prlimit64 sched_getaffinity sched_getattr sched_getparam
        sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
        sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
        setpriority setrlimit ugetrlimit
    """,
    "users, groups, capabilities": """
        capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32
        getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
        setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid
        setuid32
    """,
    "giving up rights": """
        landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp
    """,
    "signals": """
        rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
        rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn
    """,
    "clocks and timers (setting needs CAP_SYS_TIME, which the kernel checks)": """
        adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
        clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create
        timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 times
    """,
    "sockets (socket itself has a condition below)": """
        accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64
        recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
    """,
    "System V and POSIX queues": """
        ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
        mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt
        shmget
    """,
    "about the machine": "getrandom riscv_hwprobe sysinfo uname",
}

TRACING_SINCE = (4, 8)
"""Before Linux 4.8 ptrace could be used to walk around a seccomp filter."""
TRACING = "process_vm_readv process_vm_writev ptrace"

BY_ARCH: dict[tuple[str, ...], str] = {
    ("arm", "arm64"): "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ("amd64", "x32"): "arch_prctl",
    ("amd64", "x32", "x86"): "modify_ldt",
    ("s390", "s390x"): "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    ("riscv64",): "riscv_flush_icache",
    ("ppc64le",): "sync_file_range2 swapcontext",
}

BY_CAPABILITY: dict[str, str] = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
        lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
        sethostname setns syslog umount umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX, PER_LINUX32, each also with UNAME26, and the value that only asks."""

AF_VSOCK = 40
"""Leads out of every network namespace, to the hypervisor."""

NAMESPACE_FLAGS = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""

SUB_ARCHES: dict[str, tuple[str, ...]] = {
    "amd64": ("x86", "x32"),
    "arm64": ("arm",),
    "s390x": ("s390",),
    "riscv64": (),
    "ppc64le": (),
}


@dataclass(frozen=True, slots=True)
class Argument:
    """Argument ``index`` compared with ``value``; ``value_two`` is the datum of MASKED_EQ, whose mask is ``value``.

    ``op`` is one of libseccomp's (NE, LT, LE, EQ, GE, GT, MASKED_EQ), or NE_INT, which looks at the low 32 bits only.
    """

    index: int
    op: str
    value: int
    value_two: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """``names`` get ``action`` (ALLOW, ERRNO, ...) if all of ``args`` hold; ``errno`` is for ERRNO and TRACE."""

    names: tuple[str, ...]
    action: str = "ALLOW"
    errno: int = 1
    args: tuple[Argument, ...] = ()


def rules(capabilities: frozenset[str], arch: str, kernel: tuple[int, int]) -> list[Rule]:
    """The rules of the default profile for a process with these ``capabilities``."""
    found = [Rule(tuple(" ".join(ALWAYS.values()).split()))]
    if kernel >= TRACING_SINCE:
        found.append(Rule(tuple(TRACING.split())))
    # The kernel takes an int: with all 64 bits compared, any high bit would let the family through.
    found.append(Rule(("socket",), args=(Argument(0, "NE_INT", AF_VSOCK),)))
    found += [Rule(("personality",), args=(Argument(0, "EQ", value),)) for value in PERSONALITIES]
    for arches, names in BY_ARCH.items():
        if arch in arches:
            found.append(Rule(tuple(names.split())))
    for capability, names in BY_CAPABILITY.items():
        if capability in capabilities:
            found.append(Rule(tuple(names.split())))
    if "CAP_SYS_ADMIN" not in capabilities:
        # s390 has the stack first. clone3 hides its flags behind a pointer: ENOSYS makes libc fall back to clone.
        index = 1 if arch in ("s390", "s390x") else 0
        found.append(Rule(("clone",), args=(Argument(index, "MASKED_EQ", NAMESPACE_FLAGS, 0),)))
        found.append(Rule(("clone3",), action="ERRNO", errno=38))
    return found
