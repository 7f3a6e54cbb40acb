"""diffusers' VQModel under torch in a process of its own, told over pipes when to encode; for tokenizer_f16.py.

python benchmarks/torch_peer.py FOLDER, with FOLDER as `share` in tokenizer_f16.py writes it. Reads a JSON object on
each line, writes one with the time or the versions.
"""

import copy
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch


class Peer:
    """One network in one memory format and precision, and how it encodes."""

    def __init__(self, folder: Path, *, channels_last: bool, compiled: bool, precision: str) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        diffusers.utils.logging.set_verbosity_error()
        model = diffusers.VQModel.from_pretrained(folder / "vqvae", low_cpu_mem_usage=False).eval().to(self.device)
        self._quantize = copy.deepcopy(model.quantize)  # distances are float32 on both sides
        model = model.to(self._dtype).to(memory_format=self._format)
        latents = lambda x: model.encode(x).latents  # noqa: E731 - what torch.compile takes
        self._latents = torch.compile(latents) if compiled else latents

    def encode(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        """Returns the codes of uint8[n, s, s, 3], and is done when it returns."""
        codes = [self._batch(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
        return np.asarray(torch.cat(codes).cpu().numpy(), np.uint16)

    def _batch(self, images: np.ndarray) -> Any:
        with torch.inference_mode():
            x = torch.from_numpy(images).to(self.device, non_blocking=True).permute(0, 3, 1, 2)
            x = (x.to(torch.float32) / 255).to(self._dtype).contiguous(memory_format=self._format)
            indices = self._quantize(self._latents(x).float())[2][2]
            return indices.reshape(len(images), -1)


def main() -> None:
    """Answers until the pipe closes."""
    folder = Path(sys.argv[1])
    images = np.load(folder / "images.npy")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    peers: dict[str, Peer] = {}
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "threads": torch.get_num_threads()}
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        name = json.dumps(asked["how"], sort_keys=True)
        if name not in peers:
            peers[name] = Peer(folder, **asked["how"])
        start = time.perf_counter()
        codes = peers[name].encode(images, asked["batch_size"])
        seconds = time.perf_counter() - start
        np.save(folder / "codes.npy", codes)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
