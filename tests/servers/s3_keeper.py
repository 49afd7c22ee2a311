"""Runs one S3 server for as long as anybody holds the lock, then ends it and removes its folder.

Started by `s3_server.py` as a program of its own: test workers come and go (and may be killed), and the kernel gives up
a process's locks when it dies. So the server can neither end under a worker that still needs it nor outlive them all.

    python s3_keeper.py FOLDER weed server …
"""

import fcntl
import glob
import os
import re
import shutil
import subprocess
import sys
import threading


def main() -> None:
    folder, command = sys.argv[1], sys.argv[2:]
    with open(os.path.join(folder, "log"), "wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    with open(os.path.join(folder, "users"), "a") as users:
        watch = threading.Thread(target=_clean_up_after, args=(server, folder, command), daemon=True)
        watch.start()
        fcntl.flock(users, fcntl.LOCK_EX)
        # Nothing of it is wanted any more: an orderly end takes it 12 s.
        server.kill()
        watch.join()


def _clean_up_after(server: subprocess.Popen[bytes], folder: str, command: list[str]) -> None:
    """Also when the server ends by itself: a test that needs it fails then, but nothing is left behind."""
    server.wait()
    for port in re.findall(r"port(?:\.grpc)?=(\d+)", " ".join(command)):
        for left in glob.glob(f"/tmp/seaweedfs-*-{port}.sock"):  # it puts them there whatever TMPDIR says
            os.unlink(left)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
