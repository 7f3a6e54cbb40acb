"""The work of `visent generate`, and of the sheets drawn while training: prompts in, pictures and clips out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from manifests import files
from manifests.corpus import Corpus
from manifests.lock import Lock
from tokenizer.load import load
from tokenizer.tokenizer import Tokenizer
from trainer import model as llama
from trainer import movies, pictures
from trainer.config import RunConfig
from trainer.generate import Sampling, generate
from trainer.memory import advised
from trainer.prompts import Prompts, from_task
from trainer.run_folder import SavedRun, open_run
from visent.errors import UserError
from visent.progress import track

DECODED_TOGETHER = 64  # images; more would only take memory
_UNKNOWN = 235  # grey of the part of an image that was not given

Images = UInt8[np.ndarray, "_ s s 3"]


@dataclass(frozen=True)
class TrainedRun:
    """What `visent train` left in a folder; its parameters are read when they are asked for."""

    saved: SavedRun

    @property
    def config(self) -> RunConfig:
        """What the run is."""
        return self.saved.config

    @property
    def lock(self) -> Lock:
        """The lock it read."""
        return self.saved.lock

    @property
    def step(self) -> int:
        """Steps trained."""
        return self.saved.step

    @property
    def context(self) -> int:
        """The longest sentence the model was trained on, in tokens."""
        return max(stage.context or 0 for stage in self.config.stages.values())

    @cached_property
    def params(self) -> llama.Params:
        """The parameters of the checkpoint."""
        return self.saved.params()


def load_run(root: str | Path, step: int | None = None) -> TrainedRun:
    """Opens a checkpoint of a run, the newest one unless another step is named.

    Raises:
        UserError: the folder has no checkpoint, or none of this step, or it cannot be read.
    """
    return TrainedRun(open_run(root, step))


def load_tokenizer(name_or_path: str, lock: Lock, *, all_devices: bool = False) -> Tokenizer:
    """Loads the tokenizer that made the corpus's tokens; with `all_devices` for those who have large batches.

    Raises:
        UserError: it is another one.
    """
    card = lock.card
    found = load(name_or_path, preset=card.preset, precision=card.precision, all_devices=all_devices)
    if found.card.fingerprint != lock.card.fingerprint:
        raise UserError(
            f"tokenizer {name_or_path!r} has fingerprint {found.card.fingerprint}, the run was trained on tokens of "
            f"{lock.card.name!r} ({lock.card.fingerprint}): pass its folder with --tokenizer (visent "
            "train: --set tokenizer=FOLDER)"
        )
    return found


class Sentence(NamedTuple):
    """One prompt with its continuation, as images; an image begun by the prompt is among `generated`, too."""

    given: Images
    generated: Images
    truth: Images | None
    labels: list[str]


def write_samples(
    run: TrainedRun,
    prompts: Prompts,
    tokenizer: Tokenizer,
    sampling: Sampling,
    out: Path,
    *,
    video: movies.Video = "mp4",
    batch: int | None = None,
) -> list[dict[str, Any]]:
    """Generates, decodes and draws; returns what generated.json says of each sample.

    Writes a strip for each sentence, each generated image in `images/` or the clip that a sentence ends with,
    `sheet.png` of all strips, and, last, `generated.json`.

    Raises:
        UserError: `out` cannot be written, or `batch` is not positive.
    """
    files.make_folder(out)
    params = run.params
    lack = advised("while generating", "use a smaller --batch, or fewer images")
    with lack, track("generate", len(prompts.prompt), "samples") as bar:
        codes = generate(params, run.config.model, prompts.prompt, prompts.new_tokens, sampling, bar.advance,
                         batch=batch, precision=run.config.compute.precision)  # fmt: skip
    samples, small = [], []
    for number, sentence in enumerate(_sentences(tokenizer, prompts, codes)):
        stem = f"{prompts.name}-{number:03d}"
        pictures.save(_strip(sentence, f"{prompts.name}, sample {number}, step {run.step}"), out / f"{stem}.png")
        small.append(_strip(_shrunk(sentence), f"{prompts.name} {number}"))
        same = None if prompts.truth is None else float(np.mean(prompts.truth[number] == codes[number]))
        clip = prompts.clips[number] if prompts.clips else []
        samples.append({
            "picture": f"{stem}.png",
            **_write_results(sentence, clip, out, stem, video, prompts.fps),
            "images": prompts.labels[number],
            "codes": codes[number].tolist(),
            "same_codes_as_truth": same,
        })  # fmt: skip
    how = f"top-k {sampling.top_k}, temperature {sampling.temperature:g}, seed {sampling.seed}"
    pictures.save(pictures.sheet(small, f"{prompts.name}, step {run.step}: {how}"), out / "sheet.png")
    facts = {"step": run.step, "lock_digest": run.lock.digest, "prompt": prompts.name, **sampling.__dict__,
             "sheet": "sheet.png", "samples": samples}  # fmt: skip
    files.write_json(out / "generated.json", facts)
    return samples


def sample_sheet(
    params: llama.Params,
    config: RunConfig,
    corpus: Corpus,
    tokenizer: Tokenizer,
    stage: str,
    count: int,
    title: str,
    sampling: Sampling | None = None,
) -> Image.Image | None:
    """Draws `count` held-out sentences of each task of a stage, continued; None where there is nothing to draw.

    Tasks without a held-out row are left out, and where no token begins sentences those of single images, which would
    begin with nothing.

    `corpus` reads the held-out split; its sentences and the draws are the same at every call, so that sheets of one
    run can be compared. Parameters may lie over several devices and hosts: then every host has to call this.
    """
    how, strips = sampling or Sampling(), []
    missing = corpus.missing_tasks(stage)
    for task in [name for name in corpus.task_names(stage) if name not in missing]:
        prompts = from_task(corpus, [stage], task, count)
        if config.model.begin is None and not prompts.prompt.shape[1]:
            continue
        codes = generate(params, config.model, prompts.prompt, prompts.new_tokens, how, batch=count,
                         precision=config.compute.precision)  # fmt: skip
        for number, sentence in enumerate(_sentences(tokenizer, prompts, codes)):
            strips.append(_strip(_shrunk(sentence), f"{task} {number}"))
    return pictures.sheet(strips, title) if strips else None


def _write_results(
    sentence: Sentence, clip: Sequence[int], out: Path, stem: str, video: movies.Video, fps: float
) -> dict[str, Any]:
    """Writes what was generated alone, without headings: the whole clip, or each image."""
    if clip:
        path = f"{stem}.{video}"
        movies.write_movie(np.concatenate((sentence.given, sentence.generated))[list(clip)], out / path, fps)
        return {"clip": path}
    files.make_folder(out / "images")
    paths = [f"images/{stem}-{i}.png" for i in range(len(sentence.generated))]
    for path, image in zip(paths, sentence.generated, strict=True):
        pictures.save(Image.fromarray(image), out / path)
    return {"generated": paths}


def _sentences(tokenizer: Tokenizer, prompts: Prompts, codes: UInt16[np.ndarray, "n new"]) -> Iterator[Sentence]:
    """Decodes some sentences at a time."""
    per_image = tokenizer.card.tokens_per_image
    begun = prompts.prompt.shape[1] % per_image  # codes of an image that the prompt ends in
    whole = prompts.prompt.shape[1] - begun
    parts = [prompts.prompt[:, :whole], np.concatenate((prompts.prompt[:, whole:], codes), axis=1)]
    if prompts.truth is not None:
        parts.append(np.concatenate((prompts.prompt[:, whole:], prompts.truth), axis=1))
    ends = np.cumsum([part.shape[1] // per_image for part in parts])
    together = max(DECODED_TOGETHER // int(ends[-1]), 1)
    for first in range(0, len(codes), together):
        some = np.concatenate([part[first : first + together] for part in parts], axis=1)
        decoded = tokenizer.decode(some.reshape(-1, per_image))
        for number, images in enumerate(decoded.reshape(len(some), -1, *decoded.shape[1:])):
            given, generated, *truth = np.split(images, ends[:-1])
            labels = prompts.labels[first + number]
            if begun:
                seen = begun * images.shape[1] // per_image  # rows of pixels
                half = generated[:1].copy()
                half[:, seen:] = _UNKNOWN
                given = np.concatenate((given, half))
            yield Sentence(given, generated, truth[0] if truth else None, labels)


def _shrunk(sentence: Sentence) -> Sentence:
    small = pictures.thumbnails
    truth = None if sentence.truth is None else small(sentence.truth)
    return sentence._replace(given=small(sentence.given), generated=small(sentence.generated), truth=truth, labels=[])


def _strip(sentence: Sentence, title: str) -> Image.Image:
    return pictures.strip(sentence.given, sentence.generated, sentence.truth, sentence.labels, title)
