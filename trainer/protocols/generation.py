"""What a model makes of the cases of a part: codes in files of some samples each, made once and kept.

Each sample's random key comes from the seed and its own key, so that neither the batch, the devices, the hosts nor the
other samples change it. A killed evaluation goes on with the files that are missing; another model, other cases or
settings have another folder.
"""

import dataclasses
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt64

from manifests import canonical, files
from trainer import hosts
from trainer import model as llama
from trainer.config import ComputeConfig, ModelConfig, Precision
from trainer.generate import Batch, Sampling, batch_size, check_prompts, continued, words_of
from trainer.memory import advised
from trainer.protocols.cases import Cases
from trainer.protocols.progress import shown
from trainer.protocols.samples import CHUNK, Samples
from trainer.sampling import TrainedRun
from visent.errors import UserError
from visent.untrusted.names import plain_name

FORMAT = 1  # of the files, and of how samples are drawn: another one is another folder
SETTINGS = "settings.json"


def generate_cases(
    run: TrainedRun,
    cases: Cases,
    sampling: Sampling,
    folder: str | Path,
    *,
    name: str,
    batch: int | None = None,
    precision: Precision = "auto",
) -> Samples:
    """Continues the prompt of every case; what is in `folder` already is not made again.

    Files are `<folder>/samples/<name>/<digest>/00000.npy` and so on, of `CHUNK` samples each; the digest is one of
    the weights, cases and settings. Every host of a run calls this, and each makes the missing files whose number is
    its own modulo their count, on all of its devices with `batch` samples on each. Returns when all hosts are done.

    Raises:
        UserError: the folder cannot be written, hosts do not share it, it was made with other settings, or memory
            does not suffice.
    """
    size, model = batch_size(batch), run.config.model
    check_prompts(model, cases.prompt.shape[1])
    settings = _settings(run, cases, sampling, precision)
    place = files.join(folder, "samples", plain_name(name), canonical.digest_json(settings)[:16])
    samples = Samples(folder=place, count=len(cases), new_tokens=cases.new_tokens, codebook_size=model.codebook_size)
    _open(place, folder, settings)
    missing = hosts.from_first(samples.missing() if hosts.first() else [])  # one host looks: disks may differ in what
    began = time.perf_counter()  # they show
    if missing:
        own = [chunk for chunk in missing if chunk % jax.process_count() == jax.process_index()]
        params = run.params  # on every host, as all must take part in reading a checkpoint
        with advised("while generating", "use a smaller --batch"):
            _make(samples, own, params, model, cases, sampling, name, batch=size, precision=precision)
    seconds = time.perf_counter() - began
    hosts.wait(f"samples of {name} made")
    return dataclasses.replace(samples, seconds=seconds)


def numbers_of(keys: Sequence[str]) -> UInt64[np.ndarray, " n"]:
    """Returns the number of each sample in its random key: the first 64 bits of its key's sha256."""
    return np.array([int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") for key in keys], np.uint64)


def _settings(run: TrainedRun, cases: Cases, sampling: Sampling, precision: Precision) -> dict[str, Any]:
    """Returns all that samples are a function of, as JSON."""
    return {
        "format": FORMAT, "chunk": CHUNK, "weights": run.saved.digest(), "model": dataclasses.asdict(run.config.model),
        "cases": cases.digest, "samples": len(cases), "new_tokens": cases.new_tokens,
        "sampling": dataclasses.asdict(sampling), "precision": str(llama.dtype_of(ComputeConfig(precision=precision))),
    }  # fmt: skip


def _open(place: str, folder: str | Path, settings: dict[str, Any]) -> None:
    """Makes the folder of some settings, or checks that it is theirs; clears what a killed process left in it."""
    files.make_folder(place)
    hosts.check_shared(folder)
    path = files.join(place, SETTINGS)
    if hosts.first():
        files.remove_temporaries(place)
        if not files.exists(path):
            files.write_json(path, settings)
    hosts.wait("folder of samples opened")
    if canonical.canonical_json(files.read_json(path)) != canonical.canonical_json(settings):
        raise UserError(f"{place} holds samples of other weights, cases or settings, see {SETTINGS} in it: remove that "
                        "folder, or name another --out")  # fmt: skip


def _make(
    samples: Samples, chunks: list[int], params: llama.Params, model: ModelConfig, cases: Cases, sampling: Sampling,
    name: str, **how: Any,
) -> None:  # fmt: skip
    """Makes files on this host; batches go over their ends, so that no device waits where one is written."""
    wanted = np.concatenate([samples.numbers(chunk) for chunk in chunks]) if chunks else np.empty(0, np.int64)
    words = words_of(numbers_of(cases.keys))
    cuts = [wanted[start : start + how["batch"]] for start in range(0, len(wanted), how["batch"])]
    batches = [Batch(cases.prompt[cut], words[cut]) for cut in cuts]
    others = samples.count - len(wanted)
    there = f" ({others:,} of {samples.count:,} are there or another host's)" if others else ""
    with shown(f"generate {name}{there}", len(wanted), "samples") as advance:
        made = continued(params, model, batches, samples.new_tokens, sampling, **how)
        codes = np.empty((0, samples.new_tokens), np.uint16)  # made, but not yet written
        for chunk in chunks:
            size = len(samples.numbers(chunk))
            while len(codes) < size:
                more = next(made)
                advance(len(more))
                codes = np.concatenate((codes, more))
            samples.write_chunk(chunk, codes[:size])
            codes = codes[size:]
