"""Small whole files of datasets, manifests, checkpoints and models, and who reads them."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.faults.readers import Target
from manifests.legend import Legend

MANIFEST = """# made for the fuzzer
version = 1

[datasets]
photos = "photos"
clips = { path = "clips", views = 1 }

[tasks.photos]
dataset = "photos"
kind = "single"
sentence = ["image"]

[tasks.depth]
dataset = "photos"
kind = "discriminative"
sentence = ["image", "depth"]

[tasks.clips]
dataset = "clips"
kind = "natural"
sentence = ["frames"]
frames = { order = "sorted-random" }

[stages.images]
context = 64
share = { photos = 0.5, depth = 0.25, clips = 0.25 }

[balance]
close_deficit_with = "augment"
max_views = 10
"""


def targets(work: Path) -> list[Target]:
    """Writes the files below a folder and says who reads them."""
    return [
        *_datasets(work),
        *_pixels(work),
        *_tokenizers(work),
        *_codes(work),
        *_foreign(work),
        *_llama(work),
        *_annotator(work),
    ]


def _datasets(work: Path) -> list[Target]:
    from manifests import lock
    from manifests.testing import write_random_dataset

    found = []
    for format in ("parquet", "arrayrecord"):
        folder = work / "datasets" / format
        write_random_dataset(
            str(folder), {"image": "still", "frames": "clip"}, examples={"train": 5, "val": 2}, format=format
        )  # type: ignore[arg-type]
        shards = sorted(path.name for path in folder.glob(f"*.{format}"))
        receipts = sorted(path.name for path in folder.glob("*.json"))
        found += [
            Target(name=f"verify/{format}", reader="verify", folder=str(folder), files=[*receipts, *shards]),
            Target(name=f"shard/{format}", reader="shard", folder=str(folder), files=shards),
            Target(name=f"facts/{format}", reader="shard", folder=str(folder), files=["dataset.json"]),
        ]
    corpus = work / "corpus"
    write_random_dataset(str(corpus / "photos"), {"image": "still", "depth": "still"}, examples={"train": 12, "val": 2})
    write_random_dataset(str(corpus / "clips"), {"frames": "clip"}, examples={"train": 12, "val": 2})
    (corpus / "manifest.toml").write_text(MANIFEST)
    lock.write_lock(str(corpus / "manifest.lock.json"), lock.resolve(str(corpus / "manifest.toml")))
    facts = ["photos/dataset.json", "clips/dataset.json"]
    return [
        *found,
        Target(name="manifest", reader="manifest", folder=str(corpus), files=["manifest.toml", *facts]),
        Target(name="manifest-edit", reader="edit", folder=str(corpus), files=["manifest.toml"]),
        Target(name="lock", reader="lock", folder=str(corpus), files=["manifest.lock.json"]),
    ]


def _pixels(work: Path) -> list[Target]:
    from manifests import files
    from manifests.pixel_files import PixelFacts, PixelFile, PixelSink, keys_digest, shards_of
    from manifests.testing import TINY_CARD, write_random_dataset

    folder, size = work / "pixels" / "d", TINY_CARD.image_size
    facts = write_random_dataset(
        str(folder), {"image": "still", "frames": "clip"}, examples={"val": 2}, frames=(3,), rows_per_shard=2
    )
    buffer = io.BytesIO()
    Image.fromarray(np.arange(size * size * 3, dtype=np.uint8).reshape(size, size, 3)).save(buffer, "PNG")
    (shard,) = shards_of(facts, "val")
    keys, path = ["val/00000", "val/00001"], folder / "pixels" / f"{shard.unit}.parquet"
    path.parent.mkdir()
    with PixelSink(str(path), facts.schema.roles) as sink:
        for key in keys:
            sink.append(key, {"image": [buffer.getvalue()], "frames": [buffer.getvalue()] * 3})
    info = PixelFile(file=path.name, unit=shard.unit, shard_sha256=shard.sha256, keys_sha256=shard.keys_sha256, rows=2,
                     rows_sha256=keys_digest(keys), roles=("image", "frames"), bytes=path.stat().st_size,
                     sha256=files.sha256(path))  # fmt: skip
    legend = Legend(ids=(0, 3), colours=((0, 0, 0), (9, 9, 9)), names=("other", "boat"), ignored=(0,))
    told = PixelFacts(dataset=facts.name, split="val", config_digest=facts.config_digest, image_size=size,
                      roles=facts.schema.roles, most=None, legends={"image": legend}, files=(info,))  # fmt: skip
    files.write_json(path.with_name("val.json"), told.to_json())
    return [
        Target(name="pixels", reader="pixels", folder=str(folder), files=["pixels/val.json", f"pixels/{path.name}"])
    ]


def _tokenizers(work: Path) -> list[Target]:
    from flax.serialization import msgpack_serialize

    from tokenizer.checkpoints.network import read_out
    from tokenizer.checkpoints.pickles import load_pickle
    from tokenizer.checkpoints.writing import write
    from tokenizer.testing import TINY, random_model, tiny_tokenizer_dir

    folder = work / "tokenizers"
    own = tiny_tokenizer_dir(folder)
    found = [_checkpoint(own.parent, "visent", own.name)]
    places = {"muse": "muse", "taming": "taming.ckpt", "lwm": "lwm.pkl", "diffusers": "vqvae"}
    small = replace(TINY, patch_size=1, channels=32, norm_groups=32, image_size=256, decoder_res_blocks=2)
    for layout, place in places.items():
        config = replace(small, mid_attention=layout == "taming", signed_pixels=layout in ("taming", "lwm"))
        write(read_out(random_model(config, 0), "float16"), layout, folder / place)
        found.append(_checkpoint(folder, layout, place))
    with (folder / "lwm.pkl").open("rb") as file:
        tree = load_pickle(file, "lwm.pkl")
    (folder / "lwm.msgpack").write_bytes(msgpack_serialize(tree))
    found.append(_checkpoint(folder, "msgpack", "lwm.msgpack"))
    return [*found, *_perceptual(work / "perceptual")]


def _checkpoint(folder: Path, name: str, place: str) -> Target:
    path = folder / place
    files = [str(one.relative_to(folder)) for one in sorted(path.iterdir())] if path.is_dir() else [place]
    return Target(
        name=f"checkpoint/{name}", reader="checkpoint", folder=str(folder), files=files, given={"path": place}
    )


def _perceptual(folder: Path) -> list[Target]:
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "vgg.h5", "w") as file:
        file["block1/layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 4), np.float32)
        file["block1/layers/conv2d/vars/1"] = np.zeros(4, np.float32)
        file.create_dataset("packed", data=np.zeros((64, 64)), chunks=True, compression="gzip")
    return [Target(name="checkpoint/h5", reader="perceptual", folder=str(folder), files=["vgg.h5"])]


def _codes(work: Path) -> list[Target]:
    from manifests.testing import TINY_CARD
    from tokenizer.codes import write_codes

    codes = np.arange(48, dtype=np.uint16).reshape(3, 16)
    for name in ("npz", "npy"):
        (work / "codes" / name).mkdir(parents=True, exist_ok=True)
    write_codes(work / "codes" / "npz" / "a.npz", codes, ["a.png", "b/c.png", "d.png"], TINY_CARD, nearest=False)
    buffer = io.BytesIO()
    np.save(buffer, codes)
    (work / "codes" / "npy" / "a.npy").write_bytes(buffer.getvalue())
    return [Target(name=f"codes/{name}", reader="codes", folder=str(work / "codes" / name), files=[f"a.{name}"])
            for name in ("npz", "npy")]  # fmt: skip


def _foreign(work: Path) -> list[Target]:
    import base64

    tokens = np.arange(64, dtype="<i4") % 64
    lines = json.dumps({"tokens": base64.b64encode(tokens.tobytes()).decode()}) + "\n"
    (work / "lvm").mkdir(parents=True, exist_ok=True)
    (work / "lvm" / "a.jsonl").write_text(lines * 3)
    (work / "delvm").mkdir(parents=True, exist_ok=True)
    line = json.dumps({"tokens": tokens.tolist()}).encode() + b"\n"
    (work / "delvm" / "train.bin").write_bytes(line * 3)
    with (work / "delvm" / "train.bin.meta").open("wb") as file:
        np.save(file, np.array([[n * len(line), 64] for n in range(3)]))
    return [
        Target(name="import/lvm", reader="lvm", folder=str(work / "lvm"), files=["a.jsonl"], given={"path": "a.jsonl"}),
        Target(name="import/delvm", reader="delvm", folder=str(work / "delvm"), files=["train.bin", "train.bin.meta"],
               given={"path": "train.bin"}),
    ]  # fmt: skip


def _llama(work: Path) -> list[Target]:
    from safetensors.numpy import save_file

    from trainer.exchange.settings import read_settings
    from trainer.exchange.tensors import tensors

    folder = work / "llama"
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 48,
              "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 66, "max_position_embeddings": 64,
              "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu", "torch_dtype": "float32"}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    wanted = list(tensors(read_settings(folder).model("fuzz", 66, None)))
    parts = {"model-00001-of-00002.safetensors": wanted[:5], "model-00002-of-00002.safetensors": wanted[5:]}
    for name, members in parts.items():
        save_file({one.name: np.zeros(one.shape, np.float32) for one in members}, folder / name)
    index = {one.name: name for name, members in parts.items() for one in members}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    files = ["config.json", "model.safetensors.index.json", *parts]
    return [Target(name="llama", reader="llama", folder=str(folder), files=files)]


def _annotator(work: Path) -> list[Target]:
    from onnx import TensorProto, helper, numpy_helper

    folder = work / "onnx"
    folder.mkdir(parents=True, exist_ok=True)
    kernel = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "kernel")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 24, 24])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Conv", ["x", "kernel"], ["y"])], "g", [x], [y], [kernel])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "model.toml").write_text('file = "model.onnx"\nsize = [24, 24]\ndecode = "image"\nbatch_size = 2\n')
    return [Target(name="onnx", reader="annotator", folder=str(folder), files=["model.toml", "model.onnx"])]
