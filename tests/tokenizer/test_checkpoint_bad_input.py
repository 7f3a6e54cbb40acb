"""Checkpoints that are cut, damaged, hostile or of another network: each is one clear error, and no code runs."""

import builtins
import collections
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from flax.serialization import msgpack_serialize
from hypothesis import given, settings
from hypothesis import strategies as st
from made_checkpoints import changed, made, place_of, same

from tokenizer.checkpoints import LAYOUTS, read, write
from tokenizer.checkpoints.pickles import load_pickle
from tokenizer.checkpoints.tensors import read_safetensors
from tokenizer.testing import tiny_tokenizer_dir
from visent.errors import UserError

FORMATS = ("zip", "stream", "safetensors", "msgpack", "visent")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One whole checkpoint in each format of file; the value is the file of weights."""
    root, checkpoint = tmp_path_factory.mktemp("whole"), made()
    write(checkpoint, "taming", root / "zip.ckpt")
    write(checkpoint, "lwm", root / "stream")
    write(checkpoint, "diffusers", root / "diffusers")
    write(checkpoint, "visent", root / "visent")
    (root / "tree.msgpack").write_bytes(msgpack_serialize(pickle.loads((root / "stream").read_bytes())))
    return {
        "zip": root / "zip.ckpt",
        "stream": root / "stream",
        "safetensors": root / "diffusers" / "diffusion_pytorch_model.safetensors",
        "msgpack": root / "tree.msgpack",
        "visent": root / "visent" / "model.safetensors",
    }


def placed(files: dict[str, Path], format: str, data: bytes, to: Path) -> Path:
    """Puts bytes where the whole file would be, with what lies beside it; returns what to read."""
    whole = files[format]
    for beside in whole.parent.glob("*.json"):
        (to / beside.name).write_bytes(beside.read_bytes())
    (to / whole.name).write_bytes(data)
    return to if format == "visent" else to / whole.name


@pytest.mark.parametrize("format", FORMATS)
def test_the_whole_file_is_read(files: dict[str, Path], format: str, tmp_path: Path) -> None:
    found = read(placed(files, format, files[format].read_bytes(), tmp_path))
    assert found.weights_sha256 == made().weights_sha256


@pytest.mark.parametrize("format", FORMATS)
@given(part=st.floats(0, 0.9999))
def test_a_file_cut_anywhere_is_one_clear_error(
    files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, format: str, part: float
) -> None:
    whole = files[format].read_bytes()
    place = placed(files, format, whole[: int(len(whole) * part)], tmp_path_factory.mktemp("cut"))
    with pytest.raises(UserError, match=r"truncated or damaged|is empty|no file of weights|is incomplete"):
        read(place)


@pytest.mark.parametrize("format", ["zip", "stream"])
@given(st.data())
def test_changed_bytes_of_a_pickle_never_show_a_traceback(
    files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, format: str, data: st.DataObject
) -> None:
    """They are refused, or they changed a number: then the fingerprint says so."""
    whole = bytearray(files[format].read_bytes())
    ends = [0, min(30_000, len(whole) - 1)] if data.draw(st.booleans()) else [0, len(whole) - 1]
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(*ends))] = data.draw(st.integers(0, 255))
    try:
        found = read(placed(files, format, bytes(whole), tmp_path_factory.mktemp("changed")))
    except UserError:
        return
    assert set(found.tensors) == set(made().tensors)


@pytest.mark.parametrize("bit", [0, 5, 6])
def test_an_archive_that_calls_itself_encrypted_or_patched_is_one_clear_error(
    files: dict[str, Path], bit: int, tmp_path: Path
) -> None:
    """One changed bit of what the archive's directory says of a file."""
    whole = bytearray(files["zip"].read_bytes())
    start = -1
    while (start := whole.find(b"PK\x01\x02", start + 1)) >= 0:
        whole[start + 8] |= 1 << bit
    with pytest.raises(UserError, match="truncated or damaged") as caught:
        read(placed(files, "zip", bytes(whole), tmp_path))
    assert len(str(caught.value)) < 600


class Hostile:
    """Runs a command when it is unpickled by Python's own loader."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile_trees(mark: Path) -> dict[str, tuple[Any, str]]:
    weights = {name.replace(".", "/"): tensor for name, tensor in made().tensors.items()}
    run = Hostile(os.system, f"touch {mark}")
    return {
        "at the top": (run, "posix.system"),
        "among the weights": ({"state_dict": {**weights, "encoder.conv_in.bias": run}}, "posix.system"),
        "beside the weights": ({"state_dict": weights, "callbacks": [run]}, "posix.system"),
        "as a key": ({run: weights}, "posix.system"),
        "by eval": ({"params": Hostile(builtins.eval, f"open({str(mark)!r}, 'w')")}, "builtins.eval"),
        "by getattr": ({"a": Hostile(builtins.getattr, 1, "real")}, "builtins.getattr"),
        "by subprocess": ({"a": Hostile(subprocess.check_output, ["touch", str(mark)])}, "subprocess.check_output"),
    }


@pytest.mark.parametrize("where", hostile_trees(Path("mark")))
@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ""])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_runs_none(tmp_path: Path, where: str, suffix: str) -> None:
    mark = tmp_path / "mark"
    tree, name = hostile_trees(mark)[where]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps(tree, protocol=4))
    with pytest.raises(UserError, match=f"its pickle names {name}, which is no part of a tensor") as error:
        read(path)
    assert "save_file" in str(error.value)
    assert not mark.exists()


def test_the_same_pickle_does_run_in_pythons_own_loader(tmp_path: Path) -> None:
    """So the test above tests something."""
    tree, _ = hostile_trees(tmp_path / "mark")["beside the weights"]
    pickle.loads(pickle.dumps(tree, protocol=4))
    assert (tmp_path / "mark").exists()


def test_a_pickle_that_numbers_its_notes_in_millions_takes_no_memory() -> None:
    """Python's own loader makes room for as many: 512 MB here, and 64 GB where four changed bytes say so."""
    numbered = b"\x80\x02}r" + (1 << 25).to_bytes(4, "little") + b"."
    peaks = []
    for load in (lambda file: load_pickle(file, "a file"), lambda file: pickle.load(file)):
        tracemalloc.start()
        assert load(io.BytesIO(numbered)) == {}
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < 1 << 20
    assert peaks[1] > 1 << 28


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Classes that pickle under lightning's names; the module is gone again before anything is read."""
    for parent in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")

    class ModelCheckpoint(dict):
        def __setstate__(self, state: object) -> None:
            raise AssertionError("code of the checkpoint ran")

        def __getstate__(self) -> object:
            return {"best": 0.5}

    ModelCheckpoint.__module__, ModelCheckpoint.__qualname__ = module.__name__, "ModelCheckpoint"
    module.ModelCheckpoint = ModelCheckpoint  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return ModelCheckpoint


def taming_tensors(tmp_path: Path) -> dict[str, np.ndarray]:
    write(made(), "muse", tmp_path / "names")
    from tokenizer.checkpoints.torch_files import read_pickled

    return read_pickled(tmp_path / "names" / "pytorch_model.bin", lambda tree: tree)


def test_what_lightning_leaves_beside_the_weights_is_passed_over_and_losses_are_counted(
    tmp_path: Path, lightning: Any
) -> None:
    tensors = taming_tensors(tmp_path)
    losses = {f"loss.discriminator.main.{i}.weight": np.zeros((4, 3, 4, 4), np.float32) for i in range(5)}
    tree = {
        "epoch": 3,
        "callbacks": {lightning: lightning(a=1)},
        "hyper_parameters": collections.OrderedDict(lr=1e-4, path=Path("somewhere")),
        "optimizer_states": [{"state": {0: {"step": np.float64(3)}}}],
        "state_dict": collections.OrderedDict({**tensors, **losses}),
    }
    (tmp_path / "last.ckpt").write_bytes(pickle.dumps(tree, protocol=2))
    for name in [name for name in sys.modules if name.startswith("pytorch_lightning")]:
        del sys.modules[name]
    found = read(tmp_path / "last.ckpt")
    assert same(found, made())
    assert found.layout == "taming"
    assert found.notes == {"read from": "last.ckpt (taming layout)", "left out": "5 tensors of the training losses"}


def test_a_stand_in_among_the_weights_is_refused(tmp_path: Path, lightning: Any) -> None:
    tree = {"state_dict": {**taming_tensors(tmp_path), "encoder.conv_in.bias": lightning()}}
    (tmp_path / "last.ckpt").write_bytes(pickle.dumps(tree, protocol=2))
    with pytest.raises(UserError, match=r"holds pytorch_lightning.*ModelCheckpoint at state_dict.encoder.conv_in.bias"):
        read(tmp_path / "last.ckpt")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path, layout: str, bad: float) -> None:
    bias = made().tensors["decoder.conv_out.bias"].copy()
    bias[1] = bad
    write(changed(made(), decoder__conv_out__bias=bias), layout, place_of(layout, tmp_path))
    with pytest.raises(UserError, match=r"tensor decoder.conv_out.bias holds 1 NaN or infinite numbers of 3"):
        read(place_of(layout, tmp_path))


def edit(folder: Path, **values: Any) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **values}))


SHAPING = re.compile(r"channels|codebook_(size|dim)|embed|^num_res|^layers|latent|block_types|groups")
CODEBOOK = r"quantize.embedding.weight \(64, 8\) instead of \(128, 8\)"


@pytest.mark.parametrize(
    ("layout", "values", "message"),
    [
        ("diffusers", {"num_vq_embeddings": 128}, rf"{CODEBOOK}.*codebook_size 64, not 128"),
        ("muse", {"num_embeddings": 128}, rf"{CODEBOOK}.*codebook_size 64, not 128"),
        ("muse", {"channel_mult": [1, 1, 2, 2]}, r"44 missing: decoder.up.3.*channel_mult \(1, 1, 2\), not"),
        ("diffusers", {"mid_block_add_attention": False}, "20 unexpected: .*mid_attention True, not False"),
        ("diffusers", {"down_block_types": ["DownEncoderBlock2D"] * 3}, "do not mirror each other"),
        ("diffusers", {"norm_type": "spatial"}, "norm_type is 'spatial', expected 'group'"),
        ("diffusers", {"_class_name": "AutoencoderKL"}, "describes a AutoencoderKL, expected VQModel"),
        ("diffusers", {"down_block_types": ["DownBlock2D"] * 3}, r"blocks \[.*DownBlock2D.*expected"),
        ("muse", {"_class_name": "MOVQ"}, "describes a MOVQ, expected VQGANModel"),
        ("muse", {"extra_mid_res_blocks": 2}, "extra_mid_res_blocks is 2, expected None"),
        ("muse", {"resolution": 250}, "no multiple"),
        ("visent", {"codebook_size": 128}, r"codebook \(64, 8\) instead of \(128, 8\)"),
        ("visent", {"signed_pixels": False}, "is not the one of its card"),
    ],
)  # fmt: skip
def test_a_config_of_another_network_is_refused(tmp_path: Path, layout: str, values: dict, message: str) -> None:
    write(made(), layout, tmp_path)
    edit(tmp_path, **values)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("layout", ["muse", "diffusers", "visent"])
@given(data=st.data())
@settings(max_examples=30)
def test_no_value_in_a_config_shows_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, layout: str, data: st.DataObject
) -> None:
    """Values are drawn that change the shape of the network, so none of them fits."""
    folder = tmp_path_factory.mktemp("config")
    write(made(), layout, folder)
    names = [name for name in json.loads((folder / "config.json").read_text()) if SHAPING.search(name)]
    values = st.sampled_from([None, "x", -1, 0, 0.5, 10**12, [], [0], ["x"], [None, 1], {}, {"a": 1}])
    edit(folder, **{data.draw(st.sampled_from(names)): data.draw(values)})
    with pytest.raises(UserError, match=r"config\.json|VQGAN|the tensors of"):
        read(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "\x80"])
def test_a_config_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    write(made(), "diffusers", tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=r"config\.json"):
        read(tmp_path)


def test_missing_and_unexpected_tensors_are_listed_with_their_shapes_and_counts(tmp_path: Path) -> None:
    write(made(), "diffusers", tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = {name: t for name, t in read_safetensors(weights).items() if "decoder.up_blocks.1.resnets" not in name}
    tensors["ema.decay"] = np.zeros((), np.float32)
    safetensors.numpy.save_file(tensors, weights)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    text = str(error.value)
    assert "226 found, 251 expected" in text
    assert "26 missing: decoder.up_blocks.1.resnets.0.conv1.bias (32,)" in text
    assert "and 20 more" in text
    assert "1 unexpected: ema.decay ()" in text
    assert len(text) < 1200


def test_a_tensor_stored_twice_under_two_names_is_unexpected(tmp_path: Path) -> None:
    write(made(), "muse", tmp_path)
    tensors = taming_tensors(tmp_path / "again")
    (tmp_path / "pytorch_model.bin").unlink()
    tensors["codebook"] = tensors["quantize.embedding.weight"]
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"1 unexpected: codebook \(64, 8\)"):
        read(tmp_path)


def test_integers_are_no_weights(tmp_path: Path) -> None:
    write(made(), "diffusers", tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = {**read_safetensors(weights), "quant_conv.bias": np.zeros(8, np.int32)}
    safetensors.numpy.save_file(tensors, weights)
    with pytest.raises(UserError, match=r"tensor quant_conv.bias is of type int32, expected floating-point"):
        read(tmp_path)


def test_a_gumbel_quantizer_is_refused_for_what_it_is(tmp_path: Path) -> None:
    tensors = taming_tensors(tmp_path)
    tensors["quantize.embed.weight"] = tensors.pop("quantize.embedding.weight")
    (tmp_path / "gumbel.ckpt").write_bytes(pickle.dumps({"state_dict": tensors}))
    with pytest.raises(UserError, match="has a Gumbel quantizer"):
        read(tmp_path / "gumbel.ckpt")


def test_a_folder_with_nothing_of_ours_says_what_it_found_and_what_it_expected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer in .*: found no file; expected visent: .*muse.*VQModel.*LWM"):
        read(tmp_path)
    (tmp_path / "images").mkdir()
    for i in range(20):
        (tmp_path / f"{i:02}.txt").write_text("")
    with pytest.raises(UserError, match=r"found 00\.txt, .* and 9 more; expected"):
        read(tmp_path)


def test_two_checkpoints_in_one_folder_are_not_guessed_between(tmp_path: Path) -> None:
    for name in ("epoch=1.ckpt", "epoch=2.ckpt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"holds 2 files of weights \(epoch=1.ckpt, epoch=2.ckpt\): name the one"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["picture.png", "notes.txt", "model.bin"])
def test_a_file_of_another_kind_says_how_it_begins(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(UserError, match=r"begins with b'\\x89PNG"):
        read(tmp_path / name)


def test_weights_of_another_kind_are_shown(tmp_path: Path) -> None:
    safetensors.numpy.save_file(
        {"transformer.h.0.weight": np.zeros((3, 4), np.float32)}, tmp_path / "model.safetensors"
    )
    with pytest.raises(UserError, match=r"no VQGAN that visent knows: 1 tensors, transformer.h.0.weight \(3, 4\)"):
        read(tmp_path)


def test_of_a_tokenizers_own_folder_nothing_else_may_be_told(tmp_path: Path) -> None:
    own = tiny_tokenizer_dir(tmp_path)
    with pytest.raises(UserError, match=r"signed_pixels is True, .*config\.json says False: leave it out"):
        read(own, signed_pixels=True)
    with pytest.raises(UserError, match=r"image_size is 64, .*config\.json says 32: leave it out"):
        read(own, image_size=64)
