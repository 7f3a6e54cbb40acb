"""Tokenize-once ledger: image encodings and stored bytes for five tasks of ImageNet in both directions.

    python benchmarks/ledger.py [--pictures 512]

The tasks are segmentation, depth, edges, inpainting and colorization. visent encodes and stores each picture once and
each of its five annotations once; sentences of any length and direction are composed from these rows when they are
read. LVM's scripts (https://github.com/ytongbai/LVM, tokenize_examples) run once for each task and direction: a run
encodes both pictures of every pair and writes finished sentences of 8 pairs, base64 of int32 codes in JSON lines, in
2 (colorization) or 5 (the others) permutations of the pairs. (Scripts that wrote the reverse direction from the same
run, which LVM's do not, would encode 10 pictures in place of 20: 1.7 times visent's 6.)

Both are measured here on the same pictures and codes, with the default tokenizer: crops of the photos that scikit-image
and scikit-learn ship, Felzenszwalb's segments as their label maps, blurred brightness as their depth. What a network
would draw instead changes the codes, not their number; LVM's bytes do not depend on codes at all, and visent's are
given for random codes too, which no compression makes smaller (of a codebook of 8192 they would take 1.3 times as
much). The figures for ImageNet's 1,281,167 training pictures are those per picture, multiplied.
"""

import argparse
import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import machine
import numpy as np
from pictures import write_pictures
from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table

from manifests.dataset import load_facts
from manifests.schema import Row
from manifests.shards import ShardWriter, read_codes
from pipelines.commands.common import quiet_log
from pipelines.job import Job
from pipelines.sources.pairs import PairsSource
from pipelines.tokenize import tokenize
from visent.progress import track

IMAGENET = 1_281_167  # training pictures
PAIRS_PER_SENTENCE = 8
PERMUTATIONS = {"semantic": 5, "depth": 5, "edge": 5, "holes": 5, "gray": 2}  # role of each task -> LVM's n_epochs
REQUIRED = 3.0  # times fewer, of encodings and of bytes


def main() -> None:
    """Measures both, prints the ledger and saves it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=512, help="a multiple of 8")
    pictures = parser.parse_args().pictures
    assert pictures % PAIRS_PER_SENTENCE == 0, "LVM drops what fills no sentence: give a multiple of 8"
    quiet_log()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        draw(root / "in", pictures)
        ways = {"visent: rows with roles": visent(root, pictures)}
        codes = {role: codes_of(root / "corpus", role) for role in ("image", *PERMUTATIONS)}
        ways["visent: the same, were the codes random"] = incompressible(root, codes)
        for title, permutations in (
            ("LVM: finished sentences, each pair once", dict.fromkeys(PERMUTATIONS, 1)),
            ("LVM: finished sentences, its permutations", PERMUTATIONS),
        ):
            ways[title] = lvm(root, codes, permutations)
    _, ours, *others = ways.values()  # against the larger of visent's
    for other in others:
        for what in ("encodings", "bytes"):
            other[f"times_{what}"] = other[f"{what}_per_picture"] / ours[f"{what}_per_picture"]
            assert other[f"times_{what}"] >= REQUIRED, f"{what}: {other[f'times_{what}']:.2f} times"
    show(ways, pictures)
    machine.save("ledger", {"pictures": pictures, "imagenet": IMAGENET, "required": REQUIRED, "ways": ways})


def draw(folder: Path, count: int) -> None:
    """Writes pictures, and for each a map of segments and one of depth."""
    from skimage.segmentation import felzenszwalb

    write_pictures(folder / "image", count)
    with track("drawing", count, "pictures") as progress:
        for path in sorted((folder / "image").rglob("*.jpg")):
            photo = Image.open(path).convert("RGB")
            segments = felzenszwalb(np.asarray(photo.reduce(2)), scale=300, min_size=60)
            labels = Image.fromarray((segments % 21).astype(np.uint8)).resize(photo.size, Image.Resampling.NEAREST)
            brightness = photo.convert("L").filter(ImageFilter.GaussianBlur(8))
            depth = Image.fromarray(np.asarray(brightness).astype(np.uint16) * 257)
            for role, picture in (("semantic", labels), ("depth", depth)):
                target = (folder / role / path.relative_to(folder / "image")).with_suffix(".png")
                target.parent.mkdir(parents=True, exist_ok=True)
                picture.save(target)
            progress.advance()


def visent(root: Path, pictures: int) -> dict[str, float]:
    """Tokenizes the rows once; counts what the job encoded, and every byte of the dataset's folder."""
    paths = {role: str(root / "in" / role) for role in ("image", "semantic", "depth")}
    source = PairsSource(paths=paths, items_per_unit=2048, labels=("semantic",))
    out = root / "corpus"
    summary = tokenize(Job(out=str(out), name="imagenet", source=source, annotate=("edge", "holes", "gray")))
    assert (summary.rows, summary.rejects) == (pictures, {})
    stored = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
    return entry(summary.pictures / pictures, stored / pictures)


def incompressible(root: Path, codes: dict[str, np.ndarray]) -> dict[str, float]:
    """Writes rows of random codes, with keys and meta of the same length; counts the shard's bytes."""
    schema, random = load_facts(str(root / "corpus")).schema, np.random.default_rng(0)
    pictures, path = len(codes["image"]), root / "random.parquet"
    with ShardWriter(str(path), schema) as writer:
        for number in range(pictures):
            drawn = {role: random.integers(0, schema.card.codebook_size, 256, np.uint16) for role in schema.roles}
            meta = {"source": f"0000/{number:06d}.jpg", "size": [500, 375]}
            writer.append([Row(key=f"0000/{number:06d}", view=0, codes=drawn, meta=meta)])
    return entry(len(codes), path.stat().st_size / pictures)


def codes_of(folder: Path, role: str) -> np.ndarray:
    """Returns uint16[rows 256]: the codes of a role."""
    facts = load_facts(str(folder))
    return np.concatenate([read_codes(str(folder / shard.file), facts.schema, role)[0] for shard in facts.shards])


def lvm(root: Path, codes: dict[str, np.ndarray], permutations: dict[str, int]) -> dict[str, float]:
    """Writes the sentences of every task and direction as LVM does; counts its encodings and the files' bytes."""
    random = np.random.default_rng(0)
    pictures, encodings, stored = len(codes["image"]), 0, 0
    for role, times in permutations.items():
        for first, second in (("image", role), (role, "image")):
            encodings += 2 * pictures  # one run: both pictures of every pair
            pairs = np.concatenate([codes[first], codes[second]], axis=1).astype("<i4")
            path = root / "sentences.jsonl"
            with path.open("w") as file:
                for _ in range(times):
                    for chosen in random.permutation(pictures).reshape(-1, PAIRS_PER_SENTENCE):
                        tokens = base64.b64encode(pairs[chosen].tobytes()).decode()
                        file.write(json.dumps({"tokens": tokens}) + "\n")
            stored += path.stat().st_size
    return entry(encodings / pictures, stored / pictures)


def entry(encodings: float, stored: float) -> dict[str, float]:
    """Returns the figures per picture and, multiplied, for ImageNet."""
    return {"encodings_per_picture": encodings, "bytes_per_picture": stored,
            "imagenet_encodings": round(encodings * IMAGENET), "imagenet_bytes": round(stored * IMAGENET)}  # fmt: skip


def show(ways: dict[str, Any], pictures: int) -> None:
    """Prints the ledger."""
    table = Table("", "encodings a picture", "bytes a picture", "ImageNet: encodings", "ImageNet: GB", "times", 
                  title=f"Five tasks in both directions, measured on {pictures:,} pictures")  # fmt: skip
    for name, way in ways.items():
        times = f"{way['times_encodings']:.2f}, {way['times_bytes']:.1f}" if "times_bytes" in way else ""
        table.add_row(name, f"{way['encodings_per_picture']:.0f}", f"{way['bytes_per_picture']:,.0f}",
                      f"{way['imagenet_encodings']:,}", f"{way['imagenet_bytes'] / 1e9:,.1f}", times)  # fmt: skip
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
