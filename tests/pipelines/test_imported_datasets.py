"""A dataset of another project's tokens goes through the commands like any other, but for new views."""

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from manifests.exchange.commands import import_
from pipelines.cli import show, tokenize, verify
from pipelines.commands.pixels import pixels
from tokenizer.load import load
from visent.errors import UserError


def test_it_is_verified_and_shown_and_asks_for_no_views(tmp_path: Path, tiny: str) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
    codes = load(tiny).encode(pictures)
    lines = [json.dumps({"tokens": pair.reshape(-1).tolist()}) + "\n" for pair in codes.reshape(3, 2, 16)]
    (tmp_path / "train.bin").write_text("".join(lines))
    starts = np.cumsum([0, *(len(line) for line in lines)])[:-1]
    with (tmp_path / "train.bin.meta").open("wb") as file:
        np.save(file, np.stack([starts, np.full(3, 32)], axis=1))
    out = tmp_path / "pairs"
    options = ["--from", "delvm", "--tokenizer-card", tiny, "--stills", "rainy,image", "--out", str(out)]
    taken = CliRunner().invoke(import_, [str(tmp_path / "train.bin"), *options])
    assert taken.exit_code == 0, taken.output
    checked = CliRunner().invoke(verify, [str(out), "--tokenizer", tiny])
    assert checked.exit_code == 0, checked.output
    drawn = CliRunner().invoke(show, [str(out), "--out", str(tmp_path / "rows.png"), "--tokenizer", tiny])
    assert drawn.exit_code == 0, drawn.output
    wanted = CliRunner().invoke(pixels, [str(out), "--split", "train"])
    assert isinstance(wanted.exception, UserError)
    assert "imported as tokens, so there are no pictures behind its codes" in str(wanted.exception)
    (tmp_path / "manifest.toml").write_text('version = 1\n[datasets]\npairs = { path = "pairs", views = 2 }\n')
    asked = CliRunner().invoke(tokenize, ["--views-from", str(tmp_path / "manifest.toml")])
    assert isinstance(asked.exception, UserError)
    assert "imported as tokens" in str(asked.exception)
