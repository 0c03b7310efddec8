"""The transports that this process knows, by name.

What a program registers holds for its whole job: it is written to the key-value table, where every
process of the job finds it when it first needs it.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import NamedTuple

import cloudpickle  # type: ignore[import-untyped]

from ray._runtime import RUNTIME
from ray.exceptions import RayDirectTransportError
from ray.experimental.rdt.tensor_transport_manager import TensorTransportManager

# Stands for no direct transport: everything travels through the object store.
OBJECT_STORE = "OBJECT_STORE"


class TransportInfo(NamedTuple):
    """A registered transport."""

    manager_class: type[TensorTransportManager]
    devices: list[str]  # kinds of devices: "cpu", "cuda"
    data_type: type | None  # of its tensors; None: torch.Tensor, once a program has imported torch

    def tensor_types(self) -> tuple[type, ...]:
        """The classes whose instances are tensors."""
        if self.data_type is not None:
            return (self.data_type,)
        # As long as nobody has imported it there are no tensors of it.
        torch = sys.modules.get("torch")
        return () if torch is None else (torch.Tensor,)


# Of the package's own: module, class, devices.
_OWN = {"NIXL": ("nixl_tensor_transport", "NixlTensorTransport", ["cuda", "cpu"])}
# Names that Ray has, and why they are refused.
_REFUSED = {
    "GLOO": "needs groups of actors (ray.util.collective)",
    "NCCL": "needs groups of actors (ray.util.collective)",
    "CUDA_IPC": "needs handles of the CUDA driver",
}


class Transports:
    """The registry of this process. Threads: any."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # A manager may look others up while it is made.
        self._registered: dict[str, TransportInfo] = {}  # by this process
        self._found: dict[str, TransportInfo] = {}  # by other processes, and the package's own
        self._managers: dict[str, TensorTransportManager] = {}
        self._published_epoch = 0

    def register(self, name: str, info: TransportInfo) -> None:
        """Makes a transport known to this process and, with a session, to its job.

        Raises:
            ValueError: the name is taken.
        """
        with self._lock:
            if name in self._registered or name in _OWN or name in _REFUSED:
                raise ValueError(f"The tensor transport {name} is already registered.")
            self._registered[name] = info
            self._published_epoch = 0
        self.publish()

    def publish(self) -> None:
        """Writes what was registered here where the processes of the job look for it. Does nothing
        without a session, and if it was done."""
        core, epoch = RUNTIME.core, RUNTIME.epoch
        if core is None or self._published_epoch == epoch:
            return
        with self._lock:
            registered = dict(self._registered)
        for name, info in registered.items():
            core.kv_put(_key(name), cloudpickle.dumps(info), True, _namespace(core.job_id))
        self._published_epoch = epoch

    def forget_found(self) -> None:
        """Forgets what other processes of the job have registered: the session has ended."""
        with self._lock:
            self._found.clear()

    def check_name(self, name: str) -> str:
        """The name as transports are found by: in capitals.

        Raises:
            ValueError: nobody has registered it here, or it is not supported yet.
        """
        upper = name.upper()
        if upper in _REFUSED:
            raise ValueError(
                f"The tensor transport {name!r} {_REFUSED[upper]}, which is not supported yet. Use"
                " 'nixl', or a one-sided transport of your own by"
                " ray.experimental.register_tensor_transport."
            )
        if upper == OBJECT_STORE or upper in _OWN or self.find(upper) is not None:
            return upper
        known = ", ".join(sorted({*_OWN, *self._registered, *self._found}))
        raise ValueError(
            f"Invalid tensor transport {name!r}: known are {known}. Others are made known by"
            " ray.experimental.register_tensor_transport, before they are named."
        )

    def find(self, name: str) -> TransportInfo | None:
        """The transport of that name, in capitals; None: unknown. May block for one request to the
        raylet."""
        info = self._registered.get(name) or self._found.get(name)
        if info is not None:
            return info
        if name in _OWN:
            module, cls, devices = _OWN[name]
            imported = importlib.import_module(f"ray.experimental.rdt.{module}")
            info = TransportInfo(getattr(imported, cls), devices, None)
        else:
            core = RUNTIME.core
            blob = None if core is None else core.kv_get(_key(name), _namespace(core.job_id))
            if blob is None:
                return None
            info = cloudpickle.loads(blob)
        with self._lock:
            return self._found.setdefault(name, info)

    def require(self, name: str) -> TransportInfo:
        """As ``find``.

        Raises:
            RayDirectTransportError: unknown.
        """
        info = self.find(name)
        if info is None:
            raise RayDirectTransportError(
                f"The tensor transport {name} is not known in this process. Register it with"
                " ray.experimental.register_tensor_transport in the driver, before the actors that"
                " use it are created."
            )
        return info

    def manager(self, name: str) -> TensorTransportManager:
        """This process's instance of the transport, made when it is first needed.

        Raises:
            RayDirectTransportError: the transport is unknown.
        """
        found = self._managers.get(name)
        if found is not None:
            return found
        with self._lock:
            if name not in self._managers:
                self._managers[name] = self.require(name).manager_class()
            return self._managers[name]


def _key(name: str) -> bytes:
    return b"tensor_transport:" + name.encode()


def _namespace(job_id: bytes) -> str:
    return f"job:{job_id.hex()}"


TRANSPORTS = Transports()
RUNTIME.at_session_start.append(TRANSPORTS.publish)
RUNTIME.at_session_end.append(TRANSPORTS.forget_found)


def register_tensor_transport(
    transport_name: str,
    devices: list[str],
    transport_manager_class: type[TensorTransportManager],
    data_type: type,
) -> None:
    """Makes a tensor transport known by a name, which methods (``@ray.method(tensor_transport=)``)
    and ``ray.put(_tensor_transport=)`` then take.

    Call it in the driver, before ``ray.init`` or after. All processes of the job know it then, also
    those of actors that exist already.

    Args:
        transport_name: case does not matter.
        devices: the kinds of devices whose tensors it takes: "cpu", "cuda".
        transport_manager_class: a subclass of TensorTransportManager. Must be picklable.
        data_type: the class of its tensors, such as ``torch.Tensor`` or ``numpy.ndarray``.
            Instances inside a value are left with the process that made them; all else travels as
            usual.

    Raises:
        ValueError: the class is no TensorTransportManager, or two-sided, or the name is taken.
        TypeError: another argument is of a wrong type.
    """
    if not isinstance(transport_name, str) or not transport_name:
        raise TypeError(f"The name of a transport is a string, not {transport_name!r}.")
    if isinstance(devices, str) or not all(isinstance(device, str) for device in devices):
        raise TypeError(f"devices must be a list of strings, not {devices!r}.")
    if not isinstance(data_type, type):
        raise TypeError(f"data_type must be a class, not {data_type!r}.")
    if not (
        isinstance(transport_manager_class, type)
        and issubclass(transport_manager_class, TensorTransportManager)
    ):
        raise ValueError(
            f"transport_manager_class must be a subclass of {TensorTransportManager.__name__}, not"
            f" {transport_manager_class!r}."
        )
    if not transport_manager_class.is_one_sided():
        raise ValueError(
            f"The tensor transport {transport_name!r} is two-sided, which is not supported yet: the"
            " receiver must be able to bring tensors alone, and is_one_sided() to return True."
        )
    TRANSPORTS.register(
        transport_name.upper(), TransportInfo(transport_manager_class, list(devices), data_type)
    )
