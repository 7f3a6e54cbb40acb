"""taming-transformers' and open-muse's networks against a reference in torch, through files that torch wrote."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_checkpoints import encode, pictures, reconstruct

from tokenizer.checkpoints import read, write
from tokenizer.checkpoints.muse import to_json
from tokenizer.vqgan import VQGANConfig

torch = pytest.importorskip("torch", reason="the oracle needs the extra [oracles]")
Reference = pytest.importorskip("taming_reference").Reference

# f16 with 1024 codes has levels (1, 1, 2, 2, 4), attention in the last and in the middle; this is a narrow half of it.
TAMING: dict[str, Any] = {
    "stem": 32, "mults": (1, 1, 2), "blocks": 2, "attended": {2}, "mid": True, "z": 16, "codes": 256, "dim": 16,
}  # fmt: skip
SIDE = 32  # of the test's pictures: attention at 8 x 8
CONFIG = VQGANConfig(
    channels=32,
    channel_mult=(1, 1, 2),
    num_res_blocks=2,
    decoder_res_blocks=3,
    z_channels=16,
    codebook_size=256,
    codebook_dim=16,
    attn_resolutions=(64,),
    mid_attention=True,
    signed_pixels=True,
)


def reference(seed: int = 0, **changes: Any) -> Any:
    """Random weights, norms and biases included, with a codebook that spreads over the features of pictures."""
    torch.manual_seed(seed)
    model = Reference(**{**TAMING, **changes}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
        latents = model.latents(batch(pictures(8, SIDE, seed=9), signed=True)).flatten(0, 2)
        rows = latents[torch.randperm(len(latents))[:256]]
        model.quantize.embedding.weight.copy_(rows + 0.001 * torch.randn_like(rows))
    return model


def batch(images: np.ndarray, *, signed: bool) -> Any:
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    return 2 * pixels - 1 if signed else pixels


def compare(model: Any, path: Path, *, signed: bool) -> None:
    """All codes equal in float32, and pictures of codes within 1e-4."""
    checkpoint, images = read(path), pictures(4, SIDE)
    codes = encode(checkpoint, images)
    assert len(np.unique(codes)) > 50
    np.testing.assert_array_equal(codes, model.encode(batch(images, signed=signed)).numpy())
    expected = model.decode(torch.from_numpy(codes.copy())).numpy().transpose(0, 2, 3, 1)
    expected = (expected + 1) / 2 if signed else expected
    np.testing.assert_allclose(reconstruct(checkpoint, codes), expected, atol=1e-4)


def lightning(model: Any) -> dict[str, Any]:
    """What lightning saves: the weights among losses, the optimizer's state and settings."""
    optimizer = torch.optim.Adam(model.parameters())
    losses = {"loss.discriminator.main.0.weight": torch.zeros(4, 3, 4, 4), "loss.perceptual_loss.lin0": torch.ones(2)}
    return {
        "epoch": 1,
        "global_step": 10,
        "pytorch-lightning_version": "1.0.8",
        "state_dict": {**model.state_dict(), **losses},
        "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": argparse.Namespace(lr=1e-4, device=torch.device("cpu"), dtype=torch.float32),
        "lr_schedulers": [],
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old stream"])
def test_a_lightning_checkpoint_gives_the_codes_and_pictures_of_its_network(tmp_path: Path, zipped: bool) -> None:
    model = reference()
    torch.save(lightning(model), tmp_path / "last.ckpt", _use_new_zipfile_serialization=zipped)
    found = read(tmp_path / "last.ckpt")
    assert (found.layout, found.config) == ("taming", CONFIG)
    assert found.notes["left out"] == "2 tensors of the training losses"
    compare(model, tmp_path / "last.ckpt", signed=True)


def test_the_same_weights_for_unsigned_pixels_are_another_network(tmp_path: Path) -> None:
    """So the pixel range takes part in the comparison above."""
    model = reference()
    torch.save(lightning(model), tmp_path / "last.ckpt")
    wrong = encode(read(tmp_path / "last.ckpt", signed_pixels=False), pictures(4, SIDE))
    assert (wrong != model.encode(batch(pictures(4, SIDE), signed=True)).numpy()).mean() > 0.2


def test_a_muse_folder_that_torch_wrote_gives_the_codes_and_pictures_of_its_network(tmp_path: Path) -> None:
    model = reference(mid=False, attended=set())
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    config = VQGANConfig(
        channels=32, channel_mult=(1, 1, 2), num_res_blocks=2, decoder_res_blocks=3, z_channels=16,
        codebook_size=256, codebook_dim=16,
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(to_json(config)))
    assert read(tmp_path).config == config
    compare(model, tmp_path, signed=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_other_types_are_read_as_torch_wrote_them(tmp_path: Path, dtype: Any) -> None:
    model = reference().to(dtype)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.ckpt")
    found = read(tmp_path / "model.ckpt")
    assert found.stored_dtype == str(dtype).removeprefix("torch.")
    expected = model.encoder.conv_in.weight.detach().float().numpy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found.tensors["encoder.conv_in.kernel"].astype(np.float32), expected)


def test_views_parameters_and_shared_storages_are_read_as_torch_wrote_them(tmp_path: Path) -> None:
    model = reference()
    state = dict(model.state_dict())
    weight = state["encoder.conv_in.weight"]
    shared = torch.cat([torch.zeros(7), weight.permute(3, 1, 0, 2).reshape(-1)])
    state["encoder.conv_in.weight"] = shared[7:].reshape(3, 3, 32, 3).permute(2, 1, 3, 0)
    state["quant_conv.bias"] = torch.nn.Parameter(state["quant_conv.bias"])
    torch.save({"state_dict": state}, tmp_path / "model.ckpt")
    found = read(tmp_path / "model.ckpt").tensors
    np.testing.assert_array_equal(found["encoder.conv_in.kernel"], weight.numpy().transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(found["quant_conv.bias"], model.quant_conv.bias.detach().numpy())


def test_torch_reads_what_we_write_and_the_reference_loads_it_strictly(tmp_path: Path) -> None:
    model = reference()
    torch.save(lightning(model), tmp_path / "last.ckpt")
    write(read(tmp_path / "last.ckpt"), "taming", tmp_path / "ours.ckpt")
    state = torch.load(tmp_path / "ours.ckpt", weights_only=True)["state_dict"]
    reference(seed=1).load_state_dict(state, strict=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor), name
