"""The papers' claims about data, small: what training on one's own machine says of each.

    python benchmarks/claims.py --photos FOLDER [--steps 600] [--work FOLDER]

Three tasks on real pictures with a long tail: edges of most of the photos, colorization of a tenth as many, inpainting
of a hundredth. All three share one held-out set of other photos. Every arm trains the same model for the same number
of tokens from the same first stage (single images), through `visent` commands, and is scored by its loss on the
held-out sentences of each task, in nats per token.

1. DeLVM: a tail lifted by augmented views, by repetition, or left as it is.
2. DeLVM: a small model with a teacher, and the same model without.
3. LVM-Lite: the order of tasks. Mixed, or one after the other, with and without a rescaled learning rate.

Rerunning continues what is there. Without --photos, crops of the photos that scikit-image and scikit-learn carry.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import machine
import numpy as np
from pictures import write_pictures
from rich.console import Console
from rich.table import Table as Drawn

from pipelines.sources.base import held_out

TASKS = {"edge": ("image", "edge"), "colorization": ("gray", "image"), "inpainting": ("holes", "image")}
ANNOTATION = {"edge": "edge", "colorization": "gray", "inpainting": "holes"}
PART = {"edge": 0.9, "colorization": 0.09, "inpainting": 0.01}  # of the photos trained on
FEWEST = 6  # photos of a task
HOLDOUT = 0.1
MOST_VIEWS = 64
SMALL = {"hidden": 128, "mlp": 352, "heads": 4, "layers": 3}  # the student
PEAK, FINAL, WARMUP = 2e-3, 1e-4, 10  # rates of the second stage of the recipe `tiny`

Table = dict[str, dict[str, float]]


def main() -> None:
    """Makes the corpus, trains every arm, prints the tables and saves them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of photos, some hundreds or more")
    parser.add_argument("--work", type=Path, default=Path("claims"), help="where corpora and runs are kept")
    parser.add_argument("--steps", type=int, default=600, help="of each arm")
    parser.add_argument("--batch", type=int, default=4, help="sentences (two images each) of a step")
    options = parser.parse_args()
    counts = make_corpus(options.photos, options.work)
    arms = Arms(options.work, make_manifests(options.work, options.steps * options.batch), options.steps, options.batch)
    facts = {"steps": options.steps, "batch_sentences": options.batch, "photos_trained_on": counts}
    tables: dict[str, Table] = {}
    for name, compared in (("balance", arms.balance), ("order", arms.order), ("teacher", arms.teacher)):
        tables[name] = compared()
        show(name, tables[name])
        machine.save("claims", {**facts, "held-out loss, nats per token": tables})


@dataclass(frozen=True)
class Arms:
    """The runs that are compared; each table is arm -> task -> loss."""

    work: Path
    manifests: Mapping[str, Path]
    steps: int
    batch: int

    def balance(self) -> Table:
        """The tail as it is, repeated, or augmented; the rest the same."""
        return {
            arm: self.score(self.train(arm, arm, from_first=True)) for arm in ("unbalanced", "repeated", "augmented")
        }

    def teacher(self) -> Table:
        """A small student alone and with a teacher, the larger model of the augmented arm."""
        teacher = self.train("augmented", "augmented", from_first=True)
        taught = ("--teacher", teacher)
        small = {f"model.{name}": value for name, value in SMALL.items()}
        return {
            "teacher": self.score(teacher),
            "student alone": self.score(self.train("alone", "augmented", small)),
            "student with teacher": self.score(self.train("taught", "augmented", small, taught)),
        }

    def order(self) -> Table:
        """Tasks mixed, and one after the other, rates as in each recipe but at the scale of these runs."""
        found = {"mixed": self.score(self.work / "augmented")}
        for recipe in ("continual", "continual-rescaled"):
            rates, each = (PEAK, FINAL), self.steps // len(TASKS)
            settings: dict[str, object] = {}
            for number, task in enumerate(TASKS):
                if recipe == "continual-rescaled":
                    rates = tuple(PEAK * (FINAL / PEAK) ** (k / len(TASKS)) for k in (number, number + 1))
                mine = {"steps": each, "batch_sentences": self.batch, "learning_rate": rates[0],
                        "final_learning_rate": rates[1], "warmup_steps": 0 if number else WARMUP}  # fmt: skip
                settings |= {f"stages.{task}.{name}": value for name, value in mine.items()}
            run = self.run(recipe, recipe, "ordered", {**settings, "log_every": 20}, ("--from", self.first()))
            found[recipe] = self.score(run)
        return found

    def first(self) -> Path:
        """The run of single images from which others start."""
        settings = {"stages.images.steps": self.steps // 2, "stages.images.batch_sentences": 2 * self.batch,
                    "stages.sequences.steps": 0}  # fmt: skip
        return self.run("first", "tiny", "augmented", settings)

    def train(
        self, arm: str, manifest: str, settings: Mapping[str, object] | None = None, more: Sequence[object] = (),
        *, from_first: bool = False,
    ) -> Path:  # fmt: skip
        """Trains on pairs, after the run of single images that arms share, or after a first stage of its own."""
        mine = {"stages.sequences.steps": self.steps, "stages.sequences.batch_sentences": self.batch,
                "stages.images.steps": 0 if from_first else self.steps // 2,
                "stages.images.batch_sentences": 2 * self.batch, **(settings or {})}  # fmt: skip
        origin = ("--from", self.first()) if from_first else ()
        return self.run(arm, "tiny", manifest, mine, (*origin, *more))

    def run(
        self, arm: str, recipe: str, manifest: str, settings: Mapping[str, object], more: Sequence[object] = ()
    ) -> Path:
        """Runs `visent train`, which leaves a finished run as it is, and returns its folder."""
        changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        visent(
            "train",
            recipe,
            "--model",
            "tiny",
            "-m",
            self.manifests[manifest],
            "--out",
            self.work / arm,
            *changes,
            *more,
        )
        return self.work / arm

    def score(self, run: Path) -> dict[str, float]:
        """Returns the loss of each task on all held-out photos."""
        visent("evaluate", run, "-m", self.manifests["augmented"], "--stage", "sequences", "--sentences", 1000)
        (found,) = (run / "evaluation").glob("step-*.json")
        per_task = json.loads(found.read_text())["stages"]["sequences"]["per_task"]
        return {task: per_task[task]["loss"] for task in TASKS}


def make_corpus(photos: Path | None, work: Path) -> dict[str, int]:
    """Tokenizes a dataset for each task: its own photos to train on, and the same held-out ones."""
    media = work / "media"
    if not media.exists():
        if photos is None:
            write_pictures(media, 800)
        else:
            copy_flat(photos, media)
    files = sorted(path for path in media.rglob("*") if path.is_file())
    np.random.default_rng(0).shuffle(files)
    train_files = [path for path in files if not held_out(path.stem, HOLDOUT)]
    val_files = [path for path in files if held_out(path.stem, HOLDOUT)]
    counts, begin = {}, 0
    for task, part in PART.items():
        count = max(FEWEST, round(len(train_files) * part)) if task != "edge" else round(len(train_files) * part)
        mine = train_files[begin : begin + count]
        begin, counts[task] = begin + count, len(mine)
        folder = work / "split" / task
        if not folder.exists():
            folder.mkdir(parents=True)
            for path in mine + val_files:
                (folder / path.name).symlink_to(path.resolve())
        visent("tokenize", "folder", folder, "--annotate", ANNOTATION[task], "--holdout", HOLDOUT, "--out",
               work / "corpus" / task)  # fmt: skip
    return counts


def copy_flat(source: Path, target: Path) -> None:
    """Copies pictures under names that hold their folders, so that none is lost."""
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            shutil.copyfile(path, target / "_".join(path.relative_to(source).parts))


def make_manifests(work: Path, sentences: int) -> dict[str, Path]:
    """Writes a manifest for each way to treat the tail, and has views made where one asks for them."""
    made = {}
    for arm, target, close in (("augmented", "equal", "augment"), ("repeated", "equal", "repeat"),
                               ("unbalanced", "proportional", "repeat")):  # fmt: skip
        path = made[arm] = work / f"{arm}.toml"
        if not path.exists():
            path.write_text(manifest(sentences))
            visent("manifest", "balance", path, "--stage", "sequences", "--target", target, "--close-with", close,
                   "--max-views", MOST_VIEWS)  # fmt: skip
            if close == "augment":
                visent("tokenize", "--views-from", path)
    path = made["ordered"] = work / "ordered.toml"
    if not path.exists():
        path.write_text(manifest(sentences, stages=tuple(TASKS)))
        visent("manifest", "balance", path, "--close-with", "augment", "--max-views", MOST_VIEWS)
    return made


def manifest(sentences: int, stages: Sequence[str] = ()) -> str:
    """Returns a manifest with stage `images`, and `sequences` or one stage for each task named."""
    parts = ["version = 1", "[datasets]", *(f'{task} = "corpus/{task}"' for task in TASKS)]
    parts += ["[tasks.photos]", 'dataset = "edge"', 'kind = "single"', 'sentence = ["image"]']
    for task, roles in TASKS.items():
        kind = "discriminative" if roles[0] == "image" else "generative"
        parts += [f"[tasks.{task}]", f'dataset = "{task}"', f'kind = "{kind}"', f"sentence = {json.dumps(roles)}"]
    if not stages:
        parts += ["[stages.images]", "context = 256", "share = { photos = 1.0 }"]
    for stage in stages or ("sequences",):
        tasks = (stage,) if stages else tuple(TASKS)
        parts += [f"[stages.{stage}]", "context = 512", f"sentences = {sentences // max(len(stages), 1)}",
                  "share = { " + ", ".join(f"{task} = 1.0" for task in tasks) + " }"]  # fmt: skip
    return "\n".join(parts) + "\n"


def visent(*arguments: object) -> None:
    """Runs a command as a user would."""
    command = [sys.executable, "-m", "visent", *map(str, arguments)]
    print("+", *command[2:], flush=True)
    subprocess.run(command, check=True)


def show(title: str, table: Mapping[str, Mapping[str, float]]) -> None:
    """Prints the arms of one claim."""
    drawn = Drawn("arm", *TASKS, "mean", title=title)
    for arm, found in table.items():
        mean = sum(found.values()) / len(found)
        drawn.add_row(arm, *(f"{found[task]:.3f}" for task in TASKS), f"{mean:.3f}")
    Console().print(drawn)


if __name__ == "__main__":
    main()
