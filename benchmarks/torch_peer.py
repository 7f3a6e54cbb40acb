"""diffusers' VQModel under torch, for tokenizer_f16.py: reads a line, encodes once, answers with the seconds.

Started as: torch_peer.py FOLDER IMAGES.npy CODES.npy PRECISION MEMORY_FORMAT COMPILE BATCH THREADS
"""

import contextlib
import json
import sys
import time
from typing import Any

import diffusers
import numpy as np
import torch


def prepared(folder: str, precision: str, memory: str, compiled: str) -> tuple[Any, dict[str, Any]]:
    """Loads the network onto the GPU where there is one, in a precision and a memory format."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    torch.backends.cudnn.benchmark = True
    model = diffusers.VQModel.from_pretrained(folder).eval().to(device)
    options = {"device": device, "dtype": torch.bfloat16 if precision == "bfloat16" else torch.float32}
    model.encoder.to(**options)
    model.quant_conv.to(**options)
    options["memory_format"] = torch.channels_last if memory == "channels-last" else torch.contiguous_format
    model = model.to(memory_format=options["memory_format"])
    if compiled == "yes":
        model.encoder = torch.compile(model.encoder)
    return model, options


def main() -> None:
    """Answers each line with one measurement, until the lines end."""
    folder, images, target, precision, memory, compiled, batch, threads = sys.argv[1:]
    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(int(threads))
    model, options = prepared(folder, precision, memory, compiled)
    pixels = torch.from_numpy(np.load(images)).permute(0, 3, 1, 2)

    def encode() -> np.ndarray:
        codes = []
        with torch.inference_mode():
            for part in pixels.split(int(batch)):
                x = (part.to(options["device"]).to(options["dtype"]) / 255).to(memory_format=options["memory_format"])
                codes.append(model.quantize(model.encode(x).latents.float())[2][2])
            return torch.cat(codes).cpu().numpy()

    np.save(target, encode().reshape(len(pixels), -1))
    print(json.dumps({"torch": torch.__version__, "diffusers": diffusers.__version__}), flush=True)
    with contextlib.suppress(BrokenPipeError):
        for _ in sys.stdin:
            start = time.perf_counter()
            encode()
            print(json.dumps(time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main()
