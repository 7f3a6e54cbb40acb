"""The layouts: the same weights in each of them, read back bit by bit, with one fingerprint."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from made_checkpoints import ATTENTIVE, PLAIN, changed, made, pictures, place_of, same

from tokenizer.checkpoints import LAYOUTS, Checkpoint, read, write
from tokenizer.checkpoints.diffusers import facts as diffusers_facts
from tokenizer.checkpoints.muse import facts as muse_facts
from tokenizer.checkpoints.sniff import FOREIGN
from tokenizer.load import load, load_card
from tokenizer.testing import TINY
from tokenizer.vqgan import F16_8192, VQGANConfig
from visent.errors import UserError


@pytest.fixture(scope="module")
def attentive() -> Checkpoint:
    return made()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_is_read_back_bit_by_bit(tmp_path: Path, layout: str, dtype: str) -> None:
    checkpoint = made(dtype=dtype)
    write(checkpoint, layout, place_of(layout, tmp_path))
    again = read(place_of(layout, tmp_path))
    assert same(again, checkpoint)
    assert (again.layout, again.stored_dtype) == (layout, dtype)
    assert (again.weights_sha256, again.decoder_sha256) == (checkpoint.weights_sha256, checkpoint.decoder_sha256)


@st.composite
def networks(draw: st.DrawFn) -> VQGANConfig:
    mults = (draw(st.sampled_from([1, 1, 3])), *draw(st.lists(st.integers(1, 3), max_size=2)))
    blocks = 2
    sides = [256 // 2**level for level in range(len(mults))]
    return dataclasses.replace(
        ATTENTIVE,
        channel_mult=mults,
        num_res_blocks=blocks,
        decoder_res_blocks=blocks + 1,
        attn_resolutions=tuple(draw(st.lists(st.sampled_from(sides), unique=True).map(lambda s: sorted(s)[::-1]))),
        z_channels=draw(st.sampled_from([3, 8])),
    )


@pytest.mark.slow
@given(config=networks(), layout=st.sampled_from(list(FOREIGN)))
@settings(max_examples=6)
def test_any_network_survives_any_layout(
    tmp_path_factory: pytest.TempPathFactory, config: VQGANConfig, layout: str
) -> None:
    """Config and names both come from the files alone; taming's and LWM's have no config."""
    assume(FOREIGN[layout].lacks(config) is None)
    checkpoint, place = made(config), place_of(layout, tmp_path_factory.mktemp("any"))
    write(checkpoint, layout, place)
    assert same(read(place), checkpoint)


def test_the_digest_of_given_weights_is_fixed_for_all_time() -> None:
    """Datasets on disk carry it."""
    ramp = {name: (np.arange(t.size) % 97 / 64).reshape(t.shape) for name, t in made(TINY).tensors.items()}
    checkpoint = changed(made(TINY), **{name.replace(".", "__"): t.astype(np.float32) for name, t in ramp.items()})
    assert checkpoint.weights_sha256 == "2c9db722be5c0e93170aac418b1f8d0130ba861bd3d9e49f5ebcce1bb36268b4"
    assert checkpoint.decoder_sha256 == "7ec0047f84d7461540c7e70ecbdf940c5712a363fa68bc552cf975c08cd762b1"


def test_the_fingerprint_is_of_the_encoder_alone_and_of_each_number_in_it(attentive: Checkpoint) -> None:
    other_decoder = changed(attentive, decoder__conv_out__bias=np.ones(3, np.float32))
    assert other_decoder.weights_sha256 == attentive.weights_sha256
    assert other_decoder.decoder_sha256 != attentive.decoder_sha256
    for name in ("encoder.conv_in.bias", "quant_conv.bias", "codebook"):
        tensor = attentive.tensors[name].copy()
        tensor.flat[-1] = np.nextafter(tensor.flat[-1], np.float32(9))
        assert changed(attentive, **{name.replace(".", "__"): tensor}).weights_sha256 != attentive.weights_sha256
    assert made(dtype="float16").weights_sha256 != attentive.weights_sha256


@pytest.mark.parametrize("change", [{"signed_pixels": False}, {"image_size": 512}, {"norm_groups": 16}])
def test_facts_that_shapes_do_not_tell_are_in_the_fingerprint(attentive: Checkpoint, change: dict) -> None:
    other = dataclasses.replace(attentive, config=dataclasses.replace(attentive.config, **change))
    assert other.weights_sha256 != attentive.weights_sha256


def test_resolutions_that_no_level_has_are_not(attentive: Checkpoint) -> None:
    config = dataclasses.replace(attentive.config, attn_resolutions=(7, 64))
    assert dataclasses.replace(attentive, config=config).weights_sha256 == attentive.weights_sha256


def test_an_encoder_without_decoder_gives_the_same_codes_and_says_what_it_lacks(tmp_path: Path) -> None:
    whole = made(PLAIN)
    write(whole, "diffusers", tmp_path / "whole")
    write(whole, "diffusers", tmp_path / "half")
    weights = tmp_path / "half" / "diffusion_pytorch_model.safetensors"
    tensors = safetensors.numpy.load_file(weights)
    kept = {name: t for name, t in tensors.items() if not name.startswith(("decoder.", "post_quant_conv."))}
    safetensors.numpy.save_file(kept, weights)
    half, full = load(tmp_path / "half"), load(tmp_path / "whole")
    images = (pictures(2, 64) * 255).astype(np.uint8)
    np.testing.assert_array_equal(half.encode(images), full.encode(images))
    assert (half.card.fingerprint, half.card.decoder_sha256) == (full.card.fingerprint, "")
    with pytest.raises(UserError, match="no decoder: it turns images into codes and not back"):
        half.decode(half.encode(images))


# The config.json files of the public copies of one network.
MUSE_JSON = """{"_class_name": "VQGANModel", "_version": "0.0.1", "attn_resolutions": [], "channel_mult": [1,2,2,4,6],
 "commitment_cost": 0.25, "dropout": 0.0, "hidden_channels": 128, "no_attn_mid_block": true, "num_channels": 3,
 "num_embeddings": 8192, "num_res_blocks": 2, "quantized_embed_dim": 64, "resample_with_conv": true,
 "resolution": 256, "z_channels": 64}"""
DIFFUSERS_JSON = """{"_class_name": "VQModel", "act_fn": "silu", "block_out_channels": [128, 256, 256, 512, 768],
 "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D",
 "DownEncoderBlock2D"], "in_channels": 3, "latent_channels": 64, "layers_per_block": 2, "lookup_from_codebook": true,
 "mid_block_add_attention": false, "norm_num_groups": 32, "norm_type": "group", "num_vq_embeddings": 8192,
 "out_channels": 3, "sample_size": 32, "scaling_factor": 0.18215, "up_block_types": ["UpDecoderBlock2D",
 "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"], "vq_embed_dim": 64}"""


def test_the_public_configs_are_those_of_f16_8192() -> None:
    assert VQGANConfig(**muse_facts(json.loads(MUSE_JSON))) == F16_8192
    assert VQGANConfig(**diffusers_facts(json.loads(DIFFUSERS_JSON))) == F16_8192


def test_a_pipeline_folder_is_read_through_its_vqvae(tmp_path: Path, attentive: Checkpoint) -> None:
    write(attentive, "diffusers", tmp_path / "vqvae")
    (tmp_path / "model_index.json").write_text("{}")
    assert same(read(tmp_path), attentive)


def test_full_precision_is_taken_where_both_are_there(tmp_path: Path, attentive: Checkpoint) -> None:
    write(made(dtype="float16"), "diffusers", tmp_path)
    full = tmp_path / "diffusion_pytorch_model.safetensors"
    full.rename(tmp_path / "diffusion_pytorch_model.fp16.safetensors")
    assert read(tmp_path).stored_dtype == "float16"
    write(attentive, "diffusers", tmp_path)
    assert read(tmp_path).stored_dtype == "float32"


def test_attention_under_its_names_of_old_is_read(tmp_path: Path, attentive: Checkpoint) -> None:
    write(attentive, "diffusers", tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    old = {}
    for name, tensor in safetensors.numpy.load_file(weights).items():
        for today, before in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(f".{today}.", f".{before}.")
        old[name] = tensor
    assert sum("proj_attn" in name for name in old) == 2 * (2 + 2 + 3)  # two middles, a level of two blocks, of three
    safetensors.numpy.save_file(old, weights)
    assert same(read(tmp_path), attentive)


@pytest.mark.parametrize(
    ("layout", "change", "why"),
    [
        ("muse", {"patch_size": 2}, "folds 2 x 2 pixels"),
        ("diffusers", {"decoder_res_blocks": 2}, "decoder has 2 blocks a level"),
        ("diffusers", {"norm_groups": 0}, "norms have no groups"),
        ("diffusers", {"channel_mult": (2, 2)}, "2 times the width of its stem"),
        ("diffusers", {"decoder_res_blocks": 0}, "has no decoder"),
        ("muse", {"norm_groups": 16}, "norms have 16 groups"),
        ("muse", {"num_res_blocks": 1, "decoder_res_blocks": 2}, "passes over the attention"),
        ("taming", {"mid_attention": False}, "middle has no attention"),
        ("taming", {"signed_pixels": False}, r"pixels in \[0, 1\]"),
        ("lwm", {"signed_pixels": False}, r"pixels in \[0, 1\]"),
        ("lwm", {"image_size": 512, "attn_resolutions": (128,)}, "512 pixels a side"),
    ],
)
def test_a_layout_that_cannot_hold_a_network_says_why(tmp_path: Path, layout: str, change: dict, why: str) -> None:
    with pytest.raises(UserError, match=f"the layout {layout} cannot hold this network: .*{why}"):
        write(made(dataclasses.replace(ATTENTIVE, **change)), layout, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_uneven_decoder_survives_muse(tmp_path: Path) -> None:
    checkpoint = made(dataclasses.replace(ATTENTIVE, decoder_res_blocks=2))
    write(checkpoint, "muse", tmp_path)
    assert same(read(tmp_path), checkpoint)


def test_an_unknown_layout_names_the_nearest(tmp_path: Path, attentive: Checkpoint) -> None:
    with pytest.raises(UserError, match="did you mean 'diffusers'"):
        write(attentive, "difusers", tmp_path)


def test_the_pixel_range_is_the_projects_custom_until_said_otherwise(tmp_path: Path) -> None:
    unsigned = made(dataclasses.replace(ATTENTIVE, signed_pixels=False))
    write(unsigned, "muse", tmp_path / "muse")
    assert not read(tmp_path / "muse").config.signed_pixels
    signed = read(tmp_path / "muse", signed_pixels=True)
    assert signed.config.signed_pixels
    assert signed.weights_sha256 != unsigned.weights_sha256
    write(signed, "taming", tmp_path / "signed.ckpt")
    assert (
        load_card(tmp_path / "signed.ckpt").fingerprint == load_card(tmp_path / "muse", signed_pixels=True).fingerprint
    )
    assert not load(tmp_path / "signed.ckpt", signed_pixels=False).model.config.signed_pixels


def test_another_size_of_images_is_told_and_attention_stays_at_its_level(tmp_path: Path) -> None:
    """amused-512 is such a network: the files are those of amused-256."""
    write(made(), "taming", tmp_path / "model.ckpt")
    large = read(tmp_path / "model.ckpt", image_size=512)
    assert (large.config.image_size, large.config.attn_resolutions, large.config.grid) == (512, (128,), 128)
    assert load_card(tmp_path / "model.ckpt", image_size=512).tokens_per_image == 128 * 128
    write(large, "visent", tmp_path / "own")
    assert same(read(tmp_path / "own"), large)


def test_preset_and_precision_are_chosen_at_load_and_enter_the_fingerprint(tmp_path: Path) -> None:
    write(made(PLAIN), "muse", tmp_path)
    plain = load_card(tmp_path)
    assert (plain.preset, plain.precision, plain.name) == ("crop", "float32", tmp_path.name)
    assert plain.about == {"read from": "pytorch_model.bin (muse layout)"}
    fingerprints = {
        card.fingerprint
        for card in (plain, load_card(tmp_path, preset="squash"), load_card(tmp_path, precision="tf32"))
    }
    assert len(fingerprints) == 3
    with pytest.raises(UserError, match="unknown preset 'squish': did you mean 'squash'"):
        load_card(tmp_path, preset="squish")
    with pytest.raises(UserError, match="unknown precision 'bfloat61'"):
        load_card(tmp_path, precision="bfloat61")
