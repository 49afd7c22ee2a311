"""Runs the daemons of one HDFS for as long as anybody holds the lock, then ends them and removes their folder.

A program of its own for the reason that `s3_keeper.py` gives: workers of a test run come and go, or are killed.

    python hdfs_keeper.py FOLDER < orders > answers

FOLDER/commands.json has {"before": [command, …], "daemons": {name: command}}: the first are run one after the other, then
the daemons are started. Orders are lines, answered by a line each: `start NAME`, `kill NAME` (kill -9, and it is gone when
the answer comes), `alive` (names of those that run). That nobody gives orders any more ends nothing: only the lock does.
"""

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys

_POLL_S = 0.2


class _Daemons:
    def __init__(self, folder: str) -> None:
        self.folder = folder
        with open(os.path.join(folder, "commands.json")) as file:
            commands = json.load(file)
        self.before: list[list[str]] = commands["before"]
        self.commands: dict[str, list[str]] = commands["daemons"]
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start_all(self) -> None:
        for command in self.before:
            with self._log("before") as log:
                run = subprocess.run(
                    command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
                )
            if run.returncode:
                return  # who started us sees that nothing runs, and shows the log
        for name in self.commands:
            self.start(name)

    def start(self, name: str) -> None:
        with self._log(name) as log:
            self.running[name] = subprocess.Popen(
                self.commands[name], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self, name: str) -> None:
        daemon = self.running.pop(name)
        daemon.kill()
        daemon.wait()

    def kill_all(self) -> None:
        for daemon in self.running.values():
            daemon.kill()
        for daemon in self.running.values():
            daemon.wait()

    def alive(self) -> list[str]:
        return [name for name, daemon in self.running.items() if daemon.poll() is None]

    def obey(self, order: str) -> str:
        verb, *names = order.split()
        if verb == "alive":
            return " ".join(self.alive())
        {"start": self.start, "kill": self.kill}[verb](*names)
        return "done"

    def _log(self, name: str):
        return open(os.path.join(self.folder, f"{name}.log"), "ab")


def main() -> None:
    folder = sys.argv[1]
    daemons = _Daemons(folder)
    try:
        daemons.start_all()
        with open(os.path.join(folder, "users"), "a") as users:
            _serve(daemons, users.fileno())
    finally:
        # Nothing of it is wanted any more.
        daemons.kill_all()
        shutil.rmtree(folder, ignore_errors=True)


def _serve(daemons: _Daemons, users: int) -> None:
    orders = [sys.stdin]
    while True:
        ready, _, _ = select.select(orders, [], [], _POLL_S)
        if ready:
            line = sys.stdin.readline()
            if not line:
                orders = []
                continue
            try:
                print(daemons.obey(line), flush=True)
            except BrokenPipeError:
                orders = []
        daemons.alive()  # waits for those that ended
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return


if __name__ == "__main__":
    main()
