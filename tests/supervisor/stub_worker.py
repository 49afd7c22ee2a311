"""Stands in for the worker where only process control is tested. STUB says what it does."""

import json
import os
import signal
import socket
import sys
import threading
import time

document = json.loads(os.environ["CKPTD_WORKER"])
words = os.environ.get("STUB", "").split(",")
state_dir = document["settings"]["node"]["state_dir"]


def note(line: str) -> None:
    with open(os.path.join(state_dir, "stub.txt"), "a", encoding="utf-8") as file:
        file.write(line + "\n")


def say(message: dict) -> None:
    os.write(document["pipe_fd"], json.dumps(message).encode() + b"\n")


def beat() -> None:
    while True:
        os.write(document["pipe_fd"], b"\n")
        time.sleep(document["beat_s"])


def stop(*_: object) -> None:
    note(f"stopped {os.getpid()}")
    if "deaf" in words:
        return
    sys.exit(69 if "exposed" in words else 0)


signal.signal(signal.SIGTERM, stop)
note(f"started {os.getpid()} restarts={document['restarts']} last_exit={document['last_exit']}")
if "refuse" in words:
    say({"ok": False, "message": "the bucket is not there", "hint": "make it", "code": "not-known"})
    sys.exit(68)
if "crash" in words or ("crash-later" in words and document["restarts"]):
    sys.exit(3)
listening = socket.socket(fileno=document["socket_fd"])
say({"ok": True})
threading.Thread(target=beat, daemon=True).start()
while True:
    try:
        caller, _ = listening.accept()
        with caller:
            caller.sendall(f"{os.getpid()}\n".encode())
            if "slow" in words:
                time.sleep(0.05)
    except InterruptedError:
        continue
