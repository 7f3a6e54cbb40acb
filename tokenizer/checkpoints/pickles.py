"""Reads the tensors of a pickle without running any of its code.

A pickle is a small program that may name any function and call it. This reader answers every name itself: the few that
rebuild arrays get functions of this file, names that training frameworks are known to leave beside the weights get
empty stand-ins that are built and never called, and any other name is refused.
"""

import collections
import math
import pickle  # nosec B403 # its machine alone is used: it runs nothing that a file names
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np

from visent.errors import UserError

# Packages that lightning and its users leave in checkpoints: callbacks, hyper-parameters, optimisers' settings.
BYSTANDERS = (
    "argparse", "builtins", "collections", "copyreg", "functools", "lightning", "lightning_fabric",
    "lightning_utilities", "main", "ml_collections", "numpy", "omegaconf", "pathlib", "pytorch_lightning", "taming",
    "torch", "typing", "yaml",
)  # fmt: skip
# Names below them that run what they are given; a checkpoint has no reason to hold them.
NEVER = {"eval", "exec", "compile", "open", "input", "__import__", "getattr", "setattr", "delattr", "breakpoint"}
SCALARS = {"Double": "<f8", "Float": "<f4", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "i1"}
BFLOAT16: np.dtype = np.dtype(ml_dtypes.bfloat16)
TORCH_DTYPES: Mapping[str, np.dtype] = {
    **{f"{name}Storage": np.dtype(code) for name, code in SCALARS.items()},
    **{name: np.dtype(name) for name in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8")},
    "BFloat16Storage": BFLOAT16,
    "bfloat16": BFLOAT16,
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "bool": np.dtype("?"),
    "UntypedStorage": np.dtype("u1"),
}


Rebuilders = Mapping[tuple[str, str], Callable[..., Any]]  # what answers a name: (module, name) -> ours
Source = Callable[[str], bytes]  # the bytes of a storage by its key, asked for when a tensor is wanted


@dataclass(frozen=True)
class Storage:
    """A run of bytes that tensors are cut from."""

    key: str
    dtype: np.dtype


@dataclass(frozen=True)
class TensorView:
    """A torch tensor whose bytes were not read yet; sizes and strides are in elements."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, source: Source) -> np.ndarray:
        """Returns the tensor's numbers.

        Raises:
            ValueError: the storage is shorter than the tensor.
        """
        data = np.frombuffer(source(self.storage.key), self.dtype)
        if min((self.offset, *self.shape, *self.strides)) < 0:
            raise ValueError(f"offset {self.offset}, shape {self.shape} or strides {self.strides} below zero")
        if math.prod(self.shape) > max(len(data), 1):
            raise ValueError(f"shape {self.shape} of {len(data)} stored numbers")
        reach = sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if min(self.shape, default=1) > 0 and self.offset + reach >= len(data):
            raise ValueError(f"storage {self.storage.key} holds {len(data)} numbers, a tensor needs more")
        strides = [step * self.dtype.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides, writeable=False)
        return np.ascontiguousarray(view)


class StandIn:
    """Takes the place of an object whose class is not loaded; `what` names the class."""

    what = ""

    def __new__(cls, *args: object, **kwargs: object) -> "StandIn":  # noqa: D102
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, value: object) -> None:
        """Takes what a pickle adds to a list."""

    def extend(self, values: object) -> None:
        """Takes what a pickle adds to a list."""

    def add(self, value: object) -> None:
        """Takes what a pickle adds to a set."""


class PickledArray:
    """A numpy array on its way out of a pickle."""

    def __init__(self, *_: object) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple[object, tuple[int, ...], "PickledDtype", bool, object]) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


class PickledDtype:
    """A numpy type on its way out of a pickle."""

    def __init__(self, spec: object, *_: object) -> None:
        self.spec = spec
        self.order: Literal["=", ">"] = "="

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.order = ">" if state[1] == ">" else "="

    @property
    def value(self) -> np.dtype:
        """The type itself; only those of plain numbers are made."""
        if self.spec is ml_dtypes.bfloat16:
            return BFLOAT16
        spec = str(self.spec)
        if spec[:1] not in "fiub" or not spec[1:].isdigit():
            raise pickle.UnpicklingError(f"array of type {spec!r}, expected numbers")
        made: np.dtype = np.dtype(spec)
        return made.newbyteorder(self.order)


def load_pickle(file: Any, where: Path | str, encoding: str = "ASCII", more: Rebuilders | None = None) -> Any:
    """Reads one pickle from an open binary file; arrays come out as `TensorView` and `np.ndarray`.

    `encoding` is that of the text of Python 2; `more` answers further names.

    Raises:
        UserError: it names something that is neither an array nor a known bystander.
        pickle.UnpicklingError: it is cut or damaged (and EOFError, and others that pickle raises then).
    """
    return _Finisher().of(_Reader(file, str(where), encoding, more or {}).load())


class _Reader(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """The machine in Python: the one in C makes room for as many notes as a file says it will keep, billions."""

    def __init__(self, file: Any, where: str, encoding: str, more: Rebuilders) -> None:
        super().__init__(file, encoding=encoding)
        self._where, self._known = where, {**REBUILDERS, **more}

    def find_class(self, module: str, name: str) -> Any:
        """Answers a name with something of this file, or refuses it."""
        if (module, name) in self._known:
            return self._known[module, name]
        if module in ("torch", "torch.storage") and name in TORCH_DTYPES:
            return TORCH_DTYPES[name]
        if module.split(".")[0] in BYSTANDERS and not NEVER & {*name.split("."), *module.split(".")}:
            return type("StandIn", (StandIn,), {"what": f"{module}.{name}"})
        raise UserError(
            f"{self._where}: its pickle names {module}.{name}, which is no part of a tensor and may run code "
            "when it is loaded; nothing of it was run. Expected tensors, numpy arrays and the settings of a training "
            "framework. If you trust the file, save its tensors with `safetensors.torch.save_file` where it was made"
        )

    def persistent_load(self, pid: Any) -> Storage:
        """Notes where torch keeps the numbers of a tensor."""
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"storage of an unknown kind: {kind!r} {dtype!r}")
        return Storage(str(key), dtype)


def _tensor(storage: Storage, offset: int, shape: Any, strides: Any, *_: object) -> TensorView:
    return TensorView(storage, storage.dtype, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _typed_tensor(storage: Storage, offset: int, shape: Any, strides: Any, *rest: Any) -> TensorView:
    dtype = rest[2]  # after requires_grad and the hooks; the storage itself is untyped
    return TensorView(storage, dtype, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _parameter(tensor: Any, *_: object) -> Any:
    return tensor


def _array(data: object, dtype: object, shape: Any, order: Any = "C") -> np.ndarray:
    if not isinstance(dtype, PickledDtype) or not isinstance(data, (bytes, bytearray)) or order not in ("C", "F"):
        raise pickle.UnpicklingError("array of objects, expected numbers")
    return np.frombuffer(data, dtype.value).reshape(shape, order=order)


def _scalar(dtype: object, data: object = b"") -> np.ndarray:
    return _array(data, dtype, ())


def _jax_array(_: object, args: object, state: Any, *__: object) -> PickledArray:
    array = PickledArray()
    array.__setstate__(state)
    return array


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes as {encoding}, expected latin1")
    return text.encode("latin1")


def _reconstruct(*_: object) -> PickledArray:
    return PickledArray()


REBUILDERS: Rebuilders = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch", "Size"): tuple,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array for core in ("core", "_core")},
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): PickledDtype,
    ("ml_dtypes", "bfloat16"): ml_dtypes.bfloat16,
    ("_codecs", "encode"): _encode,
    ("jax._src.array", "_reconstruct_array"): _jax_array,
    ("jax._src.device_array", "reconstruct_device_array"): _jax_array,
    ("flax.core.frozen_dict", "FrozenDict"): dict,
}


class _Finisher:
    """Puts arrays in the place of what they were rebuilt in; what stands in several places is walked once."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}
        self._kept: list[Any] = []  # so that no id is given twice

    def of(self, value: Any) -> Any:
        """Returns the value with its arrays; None in the place of what holds itself."""
        if isinstance(value, PickledArray):
            return value.value
        if type(value) not in (dict, collections.OrderedDict, list, tuple):
            return value
        if id(value) not in self._done:
            self._kept.append(value)
            self._done[id(value)] = None
            if isinstance(value, dict):
                self._done[id(value)] = {key: self.of(item) for key, item in value.items()}
            else:
                self._done[id(value)] = type(value)(self.of(item) for item in value)
        return self._done[id(value)]
