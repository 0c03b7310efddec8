"""As much of NIXL's documented interface as direct transport uses, among processes of a machine.

Strict where NIXL is: memory must be registered on both sides, and a reader knows what was
registered when it got the source's metadata. An agent's memory is served over a Unix socket.
"""

import contextlib
import ctypes
import itertools
import os
import pickle
import socket
import tempfile
import threading
import time


class nixl_agent_config:
    def __init__(self, backends):
        assert backends == ["UCX"]


class Descriptors(list):
    """(address, bytes, device) of pieces of memory."""


class nixl_agent:
    def __init__(self, name, configuration):
        assert isinstance(configuration, nixl_agent_config)
        self.name = name
        self.registered = []
        self.remotes = {}
        self.transfers = {}
        self.handles = itertools.count(1)
        self.path = os.path.join(tempfile.mkdtemp(), "agent")
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.path)
        self.server.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection, _ = self.server.accept()
            with connection, connection.makefile("rwb") as stream:
                for address, size, _ in pickle.load(stream):
                    stream.write(ctypes.string_at(address, size))

    # -- memory

    def register_memory(self, regions, mem_type):
        assert mem_type == "cpu"
        assert all(len(region) == 4 for region in regions)
        pieces = [region[:3] for region in regions]
        self.registered += pieces
        return pieces

    def deregister_memory(self, pieces):
        for piece in pieces:
            self.registered.remove(piece)

    def get_xfer_descs(self, pieces, mem_type):
        assert mem_type == "cpu"
        assert all(len(piece) == 3 and covered(piece, self.registered) for piece in pieces)
        return Descriptors(pieces)

    def get_serialized_descs(self, descriptors):
        return pickle.dumps(descriptors)

    def deserialize_descs(self, text):
        return pickle.loads(text)

    # -- sources

    def get_agent_metadata(self):
        return pickle.dumps((self.name, self.path, self.registered))

    def add_remote_agent(self, metadata):
        name, *rest = pickle.loads(metadata)
        assert name not in self.remotes, "remove it first"
        self.remotes[name] = rest
        return name

    def remove_remote_agent(self, name):
        del self.remotes[name]

    # -- transfers

    def initialize_xfer(self, operation, local, remote, agent, message):
        assert operation == "READ"
        assert isinstance(message, bytes)
        path, registered = self.remotes[agent]
        assert all(covered(piece, registered) for piece in remote), "not known to be registered"
        assert [piece[1] for piece in local] == [piece[1] for piece in remote]
        handle = next(self.handles)
        self.transfers[handle] = ["NEW", path, local, remote]
        return handle

    def transfer(self, handle):
        self.transfers[handle][0] = "PROC"
        threading.Thread(target=self.read, args=(self.transfers[handle],), daemon=True).start()
        return "PROC"

    def read(self, transfer):
        _, path, local, remote = transfer
        with contextlib.suppress(OSError, EOFError, ValueError):
            time.sleep(float(os.environ.get("NIXL_DELAY_S", "0")))
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                with connection.makefile("rwb") as stream:
                    pickle.dump(list(remote), stream)
                    stream.flush()
                    for address, size, _ in local:
                        data = stream.read(size)
                        if len(data) < size:
                            raise EOFError
                        ctypes.memmove(address, data, size)
            transfer[0] = "DONE"
            return
        transfer[0] = "ERR"

    def check_xfer_state(self, handle):
        return self.transfers[handle][0]

    def release_xfer_handle(self, handle):
        del self.transfers[handle]


def covered(piece, regions):
    address, size, device = piece
    return any(
        at <= address and address + size <= at + length and device == on
        for at, length, on in regions
    )
