"""As much of torch's documented interface as direct transport uses, over numpy."""

import types

import numpy as np

__version__ = "0.stand-in"


class device:
    def __init__(self, name):
        self.type, _, index = str(name).partition(":")
        if self.type != "cpu":
            raise RuntimeError(f"no device {name} here")
        self.index = int(index) if index else None

    def __str__(self):
        return self.type

    def __reduce__(self):
        return device, (str(self),)


class dtype:
    def __init__(self, name):
        self.name = name

    @property
    def itemsize(self):
        return np.dtype(self.name).itemsize

    def __reduce__(self):
        return _dtype, (self.name,)

    def __repr__(self):
        return f"torch.{self.name}"


def _dtype(name):
    return globals()[name]


uint8, float32, float64 = dtype("uint8"), dtype("float32"), dtype("float64")
for _class in (device, dtype):
    _class.__module__ = "torch"


class Tensor:
    """Over an array; views share their array's memory."""

    def __init__(self, array):
        self.array = array

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: globals()[self.array.dtype.name])
    device = property(lambda self: device("cpu"))

    def data_ptr(self):
        return self.array.__array_interface__["data"][0]

    def numel(self):
        return self.array.size

    def element_size(self):
        return self.array.itemsize

    def is_contiguous(self):
        return self.array.flags.c_contiguous

    def get_device(self):
        return -1

    def untyped_storage(self):
        whole = self.array if self.array.base is None else self.array.base
        address = whole.__array_interface__["data"][0]
        return types.SimpleNamespace(data_ptr=lambda: address, nbytes=lambda: whole.nbytes)

    def view(self, other):
        return Tensor(self.array.view(other.name))

    def reshape(self, shape):
        return Tensor(self.array.reshape(shape))

    def t(self):
        return Tensor(self.array.T)

    def copy_(self, other):
        self.array[...] = other.array
        return self

    def __getitem__(self, index):
        return Tensor(self.array[index])

    def tolist(self):
        return self.array.tolist()


def empty(*shape, dtype=float32, device="cpu"):
    globals()["device"](device)
    shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    return Tensor(np.empty(shape, dtype.name))


def tensor(values, dtype=float64):
    return Tensor(np.array(values, dtype.name))
