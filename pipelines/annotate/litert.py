"""Networks in TFLite files, run by LiteRT (PyPI `ai-edge-litert`)."""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from visent.errors import UserError

_opening = threading.Lock()


class LiteModel:
    """A network of one input and batch 1, with an interpreter for each thread: an interpreter serves one at a time."""

    def __init__(self, path: Path, inputs: tuple[int, ...], outputs: Sequence[tuple[int, ...]]) -> None:
        """Loads the file; shapes are without the batch.

        Raises: `UserError` when LiteRT is not installed, or the file is no such network.
        """
        self._path = path
        self._threads = threading.local()
        interpreter = self._interpreter()
        taken = [tuple(detail["shape"][1:].tolist()) for detail in interpreter.get_input_details()]
        given = [tuple(detail["shape"][1:].tolist()) for detail in interpreter.get_output_details()]
        if taken != [inputs] or given[: len(outputs)] != list(outputs):
            raise UserError(
                f"{path} is another network: it takes {taken} and gives {given}, "
                f"expected {[inputs]} and {list(outputs)}"
            )

    def __call__(self, values: Float32[np.ndarray, "h w c"]) -> list[Float32[np.ndarray, "..."]]:
        """Returns the outputs, without their batch of 1."""
        interpreter = self._interpreter()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values[None])
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"])[0] for detail in interpreter.get_output_details()]

    def _interpreter(self) -> Any:
        found = getattr(self._threads, "interpreter", None)
        if found is None:
            found = self._threads.interpreter = _opened(self._path)
        return found


def _opened(path: Path) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise UserError(f"running {path.name} needs LiteRT: pip install 'visent[annotators]'") from error
    try:
        with _silent():
            interpreter = Interpreter(str(path), num_threads=1)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path} is no TFLite model ({str(error).splitlines()[0]}); fetch it again") from error
    return interpreter


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keeps off the screen what LiteRT's C++ writes there on opening a model; it has no setting for that."""
    if os.environ.get("VISENT_TRACEBACK"):
        yield
        return
    with _opening:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)
