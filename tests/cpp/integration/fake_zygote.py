"""A zygote whose workers only sleep: the test plays them over their sockets.

Writes "TOKEN PID" to <session>/forks for each fork, and speaks the zygote's protocol on
descriptor 3. Workers end with it.
"""

import ctypes
import json
import os
import select
import signal
import socket
import time

PR_SET_PDEATHSIG = 1


def fork_worker():
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        channel.close()
        while True:
            time.sleep(1000)
    return pid


def report_exits():
    for pid in list(tokens):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            killed = os.WIFSIGNALED(status)
            send(
                event="exited",
                token=tokens.pop(pid),
                pid=pid,
                exit_code=None if killed else os.WEXITSTATUS(status),
                signal=os.WTERMSIG(status) if killed else None,
            )


def send(**message):
    channel.sendall(json.dumps(message).encode() + b"\n")


channel = socket.socket(fileno=3)
tokens = {}
received = b""
send(event="ready")
with open(os.path.join(os.environ["RAY_SESSION_DIR"], "forks"), "a", buffering=1) as forks:
    while True:
        if select.select([channel], [], [], 0.01)[0]:
            data = channel.recv(65536)
            if not data:
                break
            received += data
        *lines, received = received.split(b"\n")
        for line in lines:
            request = json.loads(line)
            pid = fork_worker()
            tokens[pid] = request["token"]
            send(event="forked", token=request["token"], pid=pid)
            forks.write(f"{request['token']} {pid}\n")
        report_exits()
