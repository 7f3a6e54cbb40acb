"""`visent tokenizer`: what it prints, what it refuses, and what it does not import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from small_run import CONFIG

from tokenizer.cli import tokenizer
from tokenizer.testing import tiny_tokenizer_dir
from tokenizer.training.loop import Trainer
from tokenizer.training.pictures import Pictures
from tokenizer.training.run import Run
from visent.errors import UserError


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(tokenizer, [str(argument) for argument in arguments])


def test_the_card_shows_what_decides_tokens_and_where_they_come_from(tmp_path: Path) -> None:
    result = run("card", tiny_tokenizer_dir(tmp_path))
    assert result.exit_code == 0
    for text in ("fingerprint", "crop", "random weights for tests", "64"):
        assert text in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["card", "nowhere"], "no tokenizer at 'nowhere'"),
        (["train", "nowhere", "--out", "OUT"], "no file or folder 'nowhere'"),
        (["train", "PHOTOS", "--out", "OUT", "--steps", "100"], "steps 100: expected more than the 200"),
        (["train", "PHOTOS", "--out", "OUT", "--about", "CC0"], "expected KEY=TEXT"),
        (["train", "PHOTOS", "--out", "OUT", "--holdout", "24"], "none is left to train on"),
        (["train", "PHOTOS", "--out", "OUT", "--renderings", "masks"], "expected FOLDER=SHARE"),
        (["train", "PHOTOS", "--out", "OUT", "--renderings", "masks=much"], "expected FOLDER=SHARE"),
        (["train", "PHOTOS", "--out", "OUT", "--renderings", "masks=0.6", "--renderings", "x=0.5"], "their sum, 1.1,"),
        (["train", "PHOTOS", "--out", "OUT", "--recipe", "f16"], "unknown recipe 'f16': did you mean 'f16-8192'"),
        (["train", "PHOTOS", "--out", "OUT", "--recipe", "f16-8192"], "no perceptual network: name its weights"),
        (["train", "PHOTOS", "--out", "OUT", "--perceptual-heads", "h.pth"], "without --perceptual"),
        (["train", "PHOTOS", "--out", "OUT", "--perceptual", "nowhere.h5"], "no file 'nowhere.h5'"),
        (["train", "PHOTOS", "--out", "OUT", "--codebook", "emma"], "unknown codebook 'emma': did you mean 'ema'"),
        (["train", "PHOTOS", "--out", "OUT", "--init", "TINY", "--codebook-size", "8"], "is kept; leave one of them"),
    ],
)
def test_mistakes_are_one_clear_line(arguments: list[str], message: str, photo_folder: Path, tmp_path: Path) -> None:
    names = {"TINY": tiny_tokenizer_dir(tmp_path), "PHOTOS": photo_folder, "OUT": tmp_path / "out"}
    result = run(*(names.get(argument, argument) for argument in arguments))
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_help_loads_no_network(tmp_path: Path) -> None:
    code = "import sys, tokenizer.cli; tokenizer.cli.tokenizer(['train', '--help'], standalone_mode=False); "
    code += "print(sorted({'jax', 'flax', 'numpy', 'PIL', 'optax'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    assert "visent tokenizer train photos/ --out my-tokenizer" in done.stdout


def test_figures_of_a_resumed_run_stand_once(photos: Pictures, tmp_path: Path) -> None:
    log = tmp_path / "training" / "metrics.jsonl"
    log.parent.mkdir()
    log.write_text('{"step": 0, "kept": 1}\n{"step": 40, "done": "again"}\n')
    Run(Trainer(CONFIG, photos), tmp_path, "mine", {}).train()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 40]
    assert "held_out" in lines[1]
