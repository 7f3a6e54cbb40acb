"""`visent tokenizer check`: what it prints of a good tokenizer, and which faults it finds."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tokenizer.checking import (
    Finding,
    PrecisionResult,
    Reconstruction,
    judge_codes,
    judge_precisions,
    judge_reconstruction,
    parameters,
    synthetic_pictures,
)
from tokenizer.checkpoints import read, write
from tokenizer.checkpoints.network import read_out
from tokenizer.cli import tokenizer
from tokenizer.commands.check import print_verdict
from tokenizer.oracle import OracleResult, oracle_missing
from tokenizer.testing import random_model, tiny_tokenizer_dir
from tokenizer.vqgan import VQGANConfig
from visent.errors import UserError

DEFAULT = Path(__file__).resolve().parents[2] / "tokenizer" / "pretrained" / "default"
PAPER = VQGANConfig(
    channels=32, channel_mult=(1, 2), num_res_blocks=1, decoder_res_blocks=2, z_channels=8, codebook_size=64,
    codebook_dim=8, image_size=32,
)  # fmt: skip


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(tokenizer, ["check", *(str(argument) for argument in arguments)])


@pytest.mark.slow
def test_the_default_tokenizer_is_good() -> None:
    result = run("default", "--limit", 4)
    assert result.exit_code == 0, (result.output, result.exception)
    card = read(DEFAULT)
    assert card.weights_sha256 in result.output
    for text in ("layout", "visent", f"{sum(t.size for t in card.tensors.values()):,}", "crop", "drawn pictures"):
        assert text in result.output
    assert re.search(r"float32 +│ 100\.00% +│ +\d+\.\d", result.output)
    assert "verdict: good (seen on drawn pictures" in result.output


@pytest.mark.slow
def test_weights_with_the_wrong_range_of_pixels_are_found_out(tmp_path: Path) -> None:
    """The fault that users report most: everything loads, and every token is wrong."""
    good = read(DEFAULT)
    config = dataclasses.replace(good.config, signed_pixels=True)
    write(dataclasses.replace(good, config=config), "visent", tmp_path / "wrong")
    result = run(tmp_path / "wrong", "--limit", 4)
    assert result.exit_code == 1
    assert "failure: with pixels in [0, 1] pictures come back at" in result.output
    assert "--unsigned-pixels" in result.output
    assert "verdict: do not tokenize with this as it is" in result.output


def test_untrained_weights_are_warned_of_on_given_pictures(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    result = run(tiny_tokenizer_dir(tmp_path), photo_folder, tmp_path / "cut.jpg", "--limit", 25)
    assert result.exit_code == 0, result.output
    assert "precisions on 24 given pictures" in result.output
    assert "cut.jpg: " in result.output
    assert re.search(r"warning: pictures come back at \d\.\d dB", result.output)
    assert "verdict: usable, with the warnings above\n" in result.output


def test_a_lost_codebook_is_found_out(tmp_path: Path) -> None:
    """One row near all features, the others far away: what a training run leaves that lost its codebook."""
    good = read(tiny_tokenizer_dir(tmp_path))
    codebook = np.full_like(good.tensors["codebook"], 100)
    codebook[5] = 0
    write(dataclasses.replace(good, tensors={**good.tensors, "codebook": codebook}), "visent", tmp_path / "lost")
    result = run(tmp_path / "lost")
    assert result.exit_code == 1
    assert "failure: all 256 tokens are 1 codes: the codebook is lost" in result.output


def test_precisions_are_compared_with_float32(tmp_path: Path) -> None:
    result = run(tiny_tokenizer_dir(tmp_path), "--precision", "bfloat16", "--precision", "float32")
    lines = [line for line in result.output.splitlines() if re.match(r"│ (b?float\S+) +│ \d", line)]
    assert [line.split()[1] for line in lines] == ["float32", "bfloat16"]
    fingerprints = {line.split("│")[-2].strip() for line in lines}
    assert len(fingerprints) == 2


@pytest.mark.slow
@pytest.mark.parametrize("signed", [False, True])
def test_diffusers_agrees_with_the_same_weights(signed: bool, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the oracle needs the extra [oracles]")
    pytest.importorskip("diffusers", reason="the oracle needs the extra [oracles]")
    config = dataclasses.replace(PAPER, signed_pixels=signed)
    write(read_out(random_model(config, seed=0), "float32"), "muse", tmp_path / "muse")
    result = run(tmp_path / "muse")
    assert "VQModel gives 100.00% of the tokens of 4 pictures" in result.output
    difference = re.search(r"differ by at most (\S+) \(of 1\)", result.output)
    assert difference is not None
    assert float(difference[1]) < 1e-4


def test_without_diffusers_it_says_what_to_install(tmp_path: Path) -> None:
    if not oracle_missing():
        pytest.skip("torch and diffusers are installed here")
    result = run(tiny_tokenizer_dir(tmp_path))
    assert f"{oracle_missing()} not installed: pip install 'visent[oracles]'" in result.output


def test_without_a_decoder_tokens_alone_are_checked(tmp_path: Path) -> None:
    good = read(tiny_tokenizer_dir(tmp_path))
    tensors = {name: t for name, t in good.tensors.items() if not name.startswith(("decoder", "post_quant"))}
    config = dataclasses.replace(good.config, decoder_res_blocks=0)
    write(dataclasses.replace(good, config=config, tensors=tensors), "visent", tmp_path / "encoder")
    result = run(tmp_path / "encoder")
    assert result.exit_code == 0, result.output
    assert "these weights have no decoder" in result.output
    assert re.search(r"decoder 0\b", result.output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no tokenizer at 'nowhere'"),
        (["TINY", "--precision", "float23"], "did you mean 'float32'"),
        (["TINY", "--preset", "crops"], "did you mean 'crop'"),
        (["TINY", "nothing.jpg"], "no file or folder 'nothing.jpg'"),
        (["TINY", "BROKEN"], "none of 1 files could be read"),
        (["BROKEN"], "broken.jpg"),
    ],
)
def test_mistakes_are_one_clear_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"<html>")
    names = {"TINY": tiny_tokenizer_dir(tmp_path), "BROKEN": tmp_path / "broken.jpg"}
    result = run(*(names.get(argument, argument) for argument in arguments))
    assert isinstance(result.exception, UserError), result.output
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_parameters_are_counted_once(tmp_path: Path) -> None:
    checkpoint = read(tiny_tokenizer_dir(tmp_path))
    counts = parameters(checkpoint)
    assert counts["codebook"] == 64 * 4
    assert sum(counts.values()) == sum(tensor.size for tensor in checkpoint.tensors.values())


def test_drawn_pictures_are_the_same_anywhere_and_differ_from_each_other() -> None:
    pictures = synthetic_pictures(4, 32)
    np.testing.assert_array_equal(synthetic_pictures(6, 32)[:4], pictures)
    assert len({picture.tobytes() for picture in pictures}) == 4


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def test_judgements_follow_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    def result(agreement: float) -> PrecisionResult:
        return PrecisionResult(precision="bfloat16", agreement=agreement, images_per_second=1.0, fingerprint="x")

    assert levels(judge_precisions([result(0.995), result(0.98)])) == ["warning"]
    assert levels(judge_codes(np.zeros((3, 4), np.uint16))) == ["failure"]
    assert levels(judge_codes(np.arange(12, dtype=np.uint16).reshape(3, 4))) == []
    good, low = (Reconstruction(psnr=p, few_here=p, few_other=p - 2) for p in (20.0, 9.0))
    assert levels(judge_reconstruction(good, signed_pixels=False)) == []
    assert levels(judge_reconstruction(low, signed_pixels=False)) == ["warning"]
    better = Reconstruction(psnr=12.0, few_here=12.0, few_other=22.0)
    (found,) = judge_reconstruction(better, signed_pixels=False)
    assert found.level == "failure"
    assert "--signed-pixels" in found.text
    assert levels(judge_reconstruction(Reconstruction(psnr=6.0, few_here=6.0, few_other=10.0), signed_pixels=True)) == [
        "warning"
    ]
    assert not OracleResult(pictures=4, same_tokens=0.9, pixel_difference=0.0).agrees
    assert not OracleResult(pictures=4, same_tokens=1.0, pixel_difference=0.1).agrees
    print_verdict([Finding("warning", "slow")], drawn=False)
    assert capsys.readouterr().out == "warning: slow\nverdict: usable, with the warnings above\n"
