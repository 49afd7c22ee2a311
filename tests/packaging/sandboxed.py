"""Runs a command under what a unit file takes from it, where no systemd runs: python sandboxed.py UNIT COMMAND…

Capabilities, new privileges, memory that is written and executed (prctl(2)), and system calls (by libseccomp, from the lists that
systemd-analyze prints).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN = 24, 38, 65, 1
CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "linux_immutable",
    "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner", "sys_module", "sys_rawio",
    "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time",
    "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
    "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
)  # fmt: skip
"""By number: linux/capability.h."""


def main() -> None:
    unit = Path(sys.argv[1]).read_text(encoding="utf-8")
    libc = ctypes.CDLL(None, use_errno=True)

    def prctl(*arguments: int) -> None:
        if libc.prctl(*(ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0)[:5])):
            raise OSError(ctypes.get_errno(), f"prctl{arguments}")

    kept = {name.lower().removeprefix("cap_") for name in setting(unit, "CapabilityBoundingSet").split()}
    assert kept <= set(CAPABILITIES), kept
    for number, name in enumerate(CAPABILITIES):
        if name not in kept:
            prctl(PR_CAPBSET_DROP, number)
    if setting(unit, "MemoryDenyWriteExecute") == "yes":
        prctl(PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN)
    if setting(unit, "NoNewPrivileges") == "yes":
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    filter_calls(setting(unit, "SystemCallFilter").split())
    os.execv(sys.argv[2], sys.argv[2:])


def setting(unit: str, key: str) -> str:
    found = re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)
    return found[-1] if found else ""


def filter_calls(groups: list[str]) -> None:
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(0x00050000 | errno.EPERM))  # SCMP_ACT_ERRNO(EPERM)
    for name in sorted({*calls(groups), *calls(["@default"])}):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert seccomp.seccomp_rule_add(context, 0x7FFF0000, number, 0) == 0, name  # SCMP_ACT_ALLOW
    assert seccomp.seccomp_load(context) == 0


def calls(groups: list[str]) -> set[str]:
    found = set[str]()
    for group in groups:
        shown = subprocess.run(["systemd-analyze", "syscall-filter", group], check=True, capture_output=True, text=True)
        names = re.findall(r"^ +(@?\w[\w-]*)$", shown.stdout, re.MULTILINE)
        found |= {name for name in names if not name.startswith("@")}
        found |= calls([name for name in names if name.startswith("@")])
    return found


if __name__ == "__main__":
    main()
