"""How close generated images come to held-out ones while a model trains: figures that need no network.

Both sides are codes through the tokenizer, so that a run needs no pixels. These are none of the papers' figures, and
are named for what they are.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8, UInt16

from manifests.corpus import Corpus
from tokenizer.tokenizer import Tokenizer
from trainer import model as llama
from trainer.config import RunConfig
from trainer.figures.closeness import Closeness
from trainer.generate import Sampling, generate
from trainer.prompts import Prompts, from_task
from trainer.sampling import DECODED_TOGETHER


@dataclass(frozen=True, kw_only=True)
class GeneratedScore:
    """One task's held-out sentences, continued."""

    samples: int
    psnr_to_decoded_truth: float  # dB; infinite where every image is equal
    ssim_to_decoded_truth: float
    equal_codes: float  # part of the generated codes that are the truth's

    def figures(self) -> dict[str, float]:
        """Returns those that are finite: SSIM of very small images is not known, PSNR of equal ones is infinite."""
        found = {name: value for name, value in dataclasses.asdict(self).items() if name != "samples"}
        return {name: value for name, value in found.items() if math.isfinite(value)}


def score_generated(
    params: llama.Params, config: RunConfig, corpus: Corpus, tokenizer: Tokenizer, stage: str
) -> Mapping[str, GeneratedScore]:
    """Continues at most `config.figures_samples` held-out sentences of each task of a stage, and compares.

    Prompts are those of sheets; of sentences that begin with nothing the upper half of the first image is given.
    `corpus` reads the held-out split; sentences and draws are the same at every call. Parameters may lie over several
    devices and hosts: then every host has to call this.
    """
    missing, found = corpus.missing_tasks(stage), {}
    for task in corpus.task_names(stage):
        if task in missing:
            continue
        per_sentence = corpus.lock.stage(stage).task(task).examples_per_sentence
        count = min(config.figures_samples, max(1, corpus.examples(stage, task) // per_sentence))
        prompts = _begun(from_task(corpus, [stage], task, count), corpus.lock.card.tokens_per_image)
        assert prompts.truth is not None
        codes = generate(params, config.model, prompts.prompt, prompts.new_tokens, Sampling(),
                         precision=config.compute.precision)  # fmt: skip
        found[task] = _compare(tokenizer, prompts.prompt, prompts.truth, codes)
    return found


def _begun(prompts: Prompts, per_image: int) -> Prompts:
    """Gives the upper half of the first image where a sentence would begin with nothing."""
    if prompts.prompt.shape[1] or prompts.truth is None:
        return prompts
    half, truth = per_image // 2, prompts.truth
    return dataclasses.replace(prompts, prompt=truth[:, :half], truth=truth[:, half:], new_tokens=truth.shape[1] - half)


def _compare(
    tokenizer: Tokenizer, prompt: UInt16[np.ndarray, "n p"], truth: UInt16[np.ndarray, "n t"],
    codes: UInt16[np.ndarray, "n t"],
) -> GeneratedScore:  # fmt: skip
    per_image = tokenizer.card.tokens_per_image
    begun = prompt[:, prompt.shape[1] - prompt.shape[1] % per_image :]  # of an image that the prompt ends in
    close = Closeness()
    together = max(DECODED_TOGETHER // -(-codes.shape[1] // per_image), 1)
    for first in range(0, len(codes), together):
        some = slice(first, first + together)
        close.add(*(_decoded(tokenizer, np.concatenate((begun[some], side[some]), axis=1)) for side in (truth, codes)))
    return GeneratedScore(samples=len(codes), psnr_to_decoded_truth=close.psnr, ssim_to_decoded_truth=close.ssim,
                          equal_codes=float(np.mean(truth == codes)))  # fmt: skip


def _decoded(tokenizer: Tokenizer, codes: UInt16[np.ndarray, "n t"]) -> UInt8[np.ndarray, "_ s s 3"]:
    images: UInt8[np.ndarray, "_ s s 3"] = tokenizer.decode(codes.reshape(-1, tokenizer.card.tokens_per_image))
    return images
