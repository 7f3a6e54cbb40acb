"""The work of `visent generate`: a trained run and prompts in, strips and their codes out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16

from manifests.lock import Lock
from tokenizer.load import load
from tokenizer.tokenizer import Tokenizer
from trainer import model as llama
from trainer import pictures
from trainer.config import RunConfig
from trainer.generate import Sampling, generate
from trainer.prompts import Prompts
from trainer.run_folder import open_run
from visent.errors import UserError
from visent.progress import track


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """What `visent train` left in a folder."""

    config: RunConfig
    lock: Lock
    params: llama.Params
    step: int

    @property
    def context(self) -> int:
        """The longest sentence the model was trained on, in tokens."""
        return max(stage.context or 0 for stage in self.config.stages.values())


def load_run(folder: str | Path) -> TrainedRun:
    """Reads the newest checkpoint of a run.

    Raises:
        UserError: the folder has no checkpoint, or it cannot be read.
    """
    found = open_run(folder)
    return TrainedRun(config=found.config, lock=found.lock, params=found.params(), step=found.step)


def load_tokenizer(name_or_path: str, lock: Lock) -> Tokenizer:
    """Loads the tokenizer that made the corpus's tokens.

    Raises:
        UserError: it is another one.
    """
    found = load(name_or_path, preset=lock.card.preset, precision=lock.card.precision)
    if found.card.fingerprint != lock.card.fingerprint:
        raise UserError(
            f"tokenizer {name_or_path!r} has fingerprint {found.card.fingerprint}, the run was trained on tokens of "
            f"{lock.card.name!r} ({lock.card.fingerprint}): pass its folder with --tokenizer"
        )
    return found


def write_samples(
    run: TrainedRun, prompts: Prompts, tokenizer: Tokenizer, sampling: Sampling, out: Path, name: str
) -> list[dict[str, Any]]:
    """Generates, decodes and draws; writes one PNG for each sentence and `generated.json`, and returns its samples.

    Raises:
        UserError: `out` cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made ({error}): choose a folder that can be written") from error
    with track("generate", len(prompts.prompt), "samples") as bar:
        codes = generate(run.params, run.config.model, prompts.prompt, prompts.new_tokens, sampling, bar.advance)
    samples = []
    for number in range(len(codes)):
        picture = f"{name}-{number:03d}.png"
        truth = None if prompts.truth is None else prompts.truth[number]
        title = f"{name}, sample {number}, step {run.step}"
        strip = pictures.strip(
            _decode(tokenizer, prompts.prompt[number]),
            _decode(tokenizer, codes[number]),
            None if truth is None else _decode(tokenizer, truth),
            prompts.labels[number],
            title,
        )
        pictures.save(strip, out / picture)
        same = None if truth is None else float(np.mean(truth == codes[number]))
        samples.append({"picture": picture, "images": prompts.labels[number], "codes": codes[number].tolist(),
                        "same_codes_as_truth": same})  # fmt: skip
    facts = {"step": run.step, "lock_digest": run.lock.digest, **sampling.__dict__, "samples": samples}
    (out / "generated.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return samples


def _decode(tokenizer: Tokenizer, codes: UInt16[np.ndarray, " t"]) -> UInt8[np.ndarray, "n s s 3"]:
    size = tokenizer.card.image_size
    if not len(codes):
        return np.empty((0, size, size, 3), np.uint8)
    return tokenizer.decode(codes.reshape(-1, tokenizer.card.tokens_per_image))
