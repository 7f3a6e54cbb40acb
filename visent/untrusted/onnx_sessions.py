"""ONNX models as onnxruntime runs them: operators of numbers alone, no code."""

from pathlib import Path
from typing import Any

import numpy as np

from visent.errors import UserError

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}  # of inputs
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def open_session(path: Path) -> Any:
    """Opens a model on the GPU that onnxruntime was built for, else on the processor.

    Raises:
        UserError: onnxruntime is not installed, or the file is no model that it runs.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"running {path.name} needs onnxruntime: pip install 'visent[onnx]'") from error
    wanted = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is fatal; all else comes as an exception
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=wanted)
    except Exception as error:  # onnxruntime's own have no common class
        raise UserError(f"{path} is no ONNX model that runs here: {str(error).splitlines()[0]}") from error
