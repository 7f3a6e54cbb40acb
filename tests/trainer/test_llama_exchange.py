import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from exchanged import large_params, write_foreign, write_run
from flax import nnx
from safetensors.numpy import load_file, save_file

from trainer import model as llama
from trainer.commands.model import model as command
from trainer.config import DistillConfig, StageConfig
from trainer.evaluate import judge
from trainer.exchange.exporting import export
from trainer.exchange.importing import begin_token, import_folder, open_folder
from trainer.exchange.settings import read_settings
from trainer.exchange.tensors import tensors
from trainer.exchange.weights import split
from trainer.generate import Sampling, generate
from trainer.loop import train
from trainer.run_folder import open_run
from visent.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SHARD = "model-00001-of-00006.safetensors"


@pytest.fixture(scope="module")
def params(model):
    return large_params(model)


@pytest.fixture(scope="module")
def run(tmp_path_factory, lock, model, params):
    return write_run(tmp_path_factory.mktemp("run"), lock, model, params)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run):
    """The run in four files."""
    out = tmp_path_factory.mktemp("exported") / "llama"
    export(run, out, file_bytes=35_000)
    return out


@pytest.fixture
def foreign(tmp_path, model, params):
    """The same numbers in a folder that says nothing of visent, in six files."""
    return write_foreign(tmp_path / "theirs", model, params)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@functools.partial(jax.jit, static_argnums=0)
def scores(model, params, codes):
    """Scores of each of `codes`, from those before it."""
    merged = nnx.merge(llama.definition(model), params)
    return merged.logits(merged.before(codes))


def test_export_and_import_give_back_every_bit(folder, lock, run, params, tmp_path):
    assert len(list(folder.glob("model-0000?-of-00004.safetensors"))) == 4
    import_folder(open_folder(folder), lock, str(tmp_path / "again"))
    again = open_run(tmp_path / "again")
    assert_same(again.params(), params)
    assert again.config.model == run.config.model
    assert (again.step, again.config.recipe) == (0, "imported")
    assert {name: stage.context for name, stage in again.config.stages.items()} == {"images": 16, "sequences": 64}


def test_files_are_filled_in_order_and_never_beyond_the_limit_but_by_one_tensor(model):
    wanted = tensors(model)
    parts = split(wanted, 4, 10_000)
    assert [tensor for part in parts for tensor in part] == wanted
    assert all(sum(t.size * 4 for t in part) <= 10_000 or len(part) == 1 for part in parts)
    assert len(split(wanted, 4, 10**9)) == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_types_round_each_number_once(run, lock, params, tmp_path, dtype):
    export(run, tmp_path / "half", dtype)
    import_folder(open_folder(tmp_path / "half"), lock, str(tmp_path / "again"))
    rounded = jax.tree.map(lambda x: np.asarray(x).astype(jnp.dtype(dtype)).astype(np.float32), params)
    assert_same(open_run(tmp_path / "again").params(), rounded)


def test_a_number_beyond_float16_is_refused_and_leaves_nothing(lock, model, params, tmp_path):
    large = {**params, "norm": {"scale": params["norm"]["scale"] * 1e6}}
    run = write_run(tmp_path / "run", lock, model, large)
    with pytest.raises(UserError, match=r"tensor model.norm.weight holds .*e\+06, more than float16 can"):
        export(run, tmp_path / "out" / "half", "float16")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_codebook_embedding_becomes_the_table_that_it_amounts_to(lock, model, tmp_path):
    model = dataclasses.replace(model, embedding="codebook", codebook_width=4)
    params = large_params(model, np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32))
    export(write_run(tmp_path / "run", lock, model, params), tmp_path / "out")
    import_folder(open_folder(tmp_path / "out"), lock, str(tmp_path / "again"))
    again = open_run(tmp_path / "again")
    assert again.config.model.embedding == "learned"
    codes = np.random.default_rng(1).integers(0, 64, (2, 12))
    expected = scores(model, params, codes)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(scores(again.config.model, again.params(), codes), expected, atol=1e-4)


def test_a_tied_folder_has_its_embedding_as_output_too(lock, model, params, tmp_path):
    folder = write_foreign(tmp_path / "tied", model, params, tie_word_embeddings=True)
    import_folder(open_folder(folder), lock, str(tmp_path / "run"))
    table = params["embedding"]["embedding"]
    assert_same(open_run(tmp_path / "run").params()["head"]["kernel"], table.T)


def test_folders_say_what_to_feed(folder, model):
    config = json.loads((folder / "config.json").read_text())
    drawn = json.loads((folder / "generation_config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"], drawn["suppress_tokens"]) == (64, None, [*range(64, 128)])
    assert config["max_position_embeddings"] == 65
    assert config["visent"]["tokens_per_image"] == 16
    readme = (folder / "README.md").read_text()
    assert "begins with **token 64**" in readme
    assert "[[64, *codes]]" in readme


@pytest.mark.parametrize(
    ("bos", "option", "expected"),
    [(64, "auto", 64), (70, "auto", 70), (1, "auto", None), (None, "auto", None), (64, "none", None), (1, "65", 65)],
)
def test_the_begin_token_is_what_is_said_or_a_bos_token_that_is_no_code(foreign, bos, option, expected):
    settings = dataclasses.replace(read_settings(foreign), begin=bos)
    assert begin_token(settings, 64, option) == expected
    model = settings.model("m", 64, expected)
    assert model.begin == expected


@pytest.mark.parametrize("option", ["63", "128", "first"])
def test_a_begin_token_must_be_special(foreign, option):
    with pytest.raises(UserError, match=f"--begin is {option}: expected auto, none, or a special token: 64 to 127"):
        begin_token(read_settings(foreign), 64, option)


def test_without_a_begin_token_a_first_code_is_as_likely_as_any_token(model, params):
    bare = dataclasses.replace(model, begins_with=None)
    codes = np.random.default_rng(2).integers(0, 64, (2, 16))
    found = scores(bare, params, codes)
    np.testing.assert_array_equal(found[:, 0], 0)

    @jax.jit
    def plain(params, codes):
        merged = nnx.merge(llama.definition(bare), params)
        return merged.logits(merged(codes))

    np.testing.assert_allclose(found[:, 1:], plain(params, codes[:, :-1]), atol=1e-5)


def test_a_model_without_a_begin_token_continues_images_but_cannot_begin(model, params):
    bare = dataclasses.replace(model, begins_with=None)
    prompt = np.random.default_rng(3).integers(0, 64, (1, 16)).astype(np.uint16)
    found = generate(params, bare, prompt, 3, Sampling(temperature=0.0))
    whole = np.concatenate((prompt, found), axis=1).astype(np.int64)
    expected = jnp.argmax(scores(bare, params, whole)[:, 16:, :64], axis=-1)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(UserError, match="give it at least one image as prompt"):
        generate(params, bare, prompt[:, :0], 3, Sampling())


def without(folder, name):
    path = next(path for path in folder.glob("*.safetensors") if name in load_file(path))
    save_file({key: value for key, value in load_file(path).items() if key != name}, path)


def replaced(folder, name, value):
    files = sorted(folder.glob("*.safetensors"))
    path = next((path for path in files if name in load_file(path)), files[0])
    save_file({**load_file(path), name: value}, path)


def only_pickles(folder):
    for path in folder.glob("model*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"PK")


def cut(folder):
    data = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(data[: len(data) // 2])


GATE = "model.layers.1.mlp.gate_proj.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (only_pickles, r"pytorch_model.bin, a pickle .* python -c .*save_pretrained\('.*theirs-safetensors'\)"),
        (cut, f"{SHARD} cannot be read .*cut short"),
        (lambda f: (f / SHARD).unlink(), f"lacks {SHARD}, which model.safetensors.index.json names"),
        (lambda f: without(f, GATE), f"names tensors that its files lack: {GATE}"),
        (lambda f: replaced(f, GATE, np.zeros((48, 31), "f4")), rf"shape.*{GATE} \[48, 31\] instead of \[48, 32\]"),
        (lambda f: replaced(f, GATE, np.zeros((48, 32), "i1")), f"other types than .*: {GATE} I8"),
        (lambda f: replaced(f, "model.layers.0.self_attn.q_proj.bias", np.zeros(32, "f4")), "has not: .*q_proj.bias"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "is no index of safetensors files"),
        (lambda f: (f / "config.json").unlink(), "has no config.json: expected a run, or a folder of"),
        (lambda f: (f / "config.json").write_text("[1]"), "holds list, expected a JSON object"),
    ],
)  # fmt: skip
def test_damaged_folders_are_refused_by_what_is_wrong(foreign, damage, message):
    damage(foreign)
    with pytest.raises(UserError, match=message):
        open_folder(foreign)


@pytest.mark.parametrize(
    ("name", "message"),
    [("/no/folder", "there is no folder /no/folder$"), ("Some/Model", "hf download Some/Model --local-dir Model$")],
)
def test_a_folder_that_is_not_there_may_be_one_of_the_hub(name, message):
    with pytest.raises(UserError, match=message):
        open_folder(Path(name))


def test_a_missing_layer_is_named(foreign):
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"lacks: model.layers.2.input_layernorm.weight, .* and 3 more"):
        open_folder(foreign)


def test_numbers_that_are_not_finite_are_refused_before_a_run_is_written(foreign, lock, tmp_path):
    replaced(foreign, GATE, np.full((48, 32), np.nan, "f4"))
    with pytest.raises(UserError, match=f"tensor {GATE} holds numbers that are not finite"):
        import_folder(open_folder(foreign), lock, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "internlm"}, "model_type is 'internlm', expected 'llama'"),
        ({"attention_bias": True}, "attention_bias is True, expected False"),
        ({"num_key_value_heads": 1}, "num_key_value_heads is 1, expected 2"),
        ({"head_dim": 8}, "head_dim is 8, expected 16"),
        ({"hidden_size": "32"}, "hidden_size is '32', expected a positive whole number"),
        ({"num_attention_heads": 5}, "hidden_size is 32, expected a multiple of 2 x 5 heads"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "rope_type 'default'"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type 'default'"),
        ({"rope_theta": 5e5}, r"rope_theta is \[10000.0, 500000.0\], expected one value"),
        ({"rms_norm_eps": None}, "rms_norm_eps is None, expected a positive number"),
        ({"quantization_config": {"bits": 4}}, "save it with plain numbers"),
    ],
)
def test_models_that_cannot_be_computed_here_are_refused(model, params, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        open_folder(write_foreign(tmp_path / "theirs", model, params, **changes))


@pytest.mark.parametrize(
    ("changes", "theta"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, "rope_theta": None}, 5e5),
        ({"rope_parameters": None, "rope_theta": 5e5, "rope_scaling": None}, 5e5),
        ({"rope_parameters": None, "rope_theta": None}, 1e4),
    ],
)
def test_rope_theta_is_read_from_old_and_new_layouts(model, params, tmp_path, changes, theta):
    assert read_settings(write_foreign(tmp_path / "theirs", model, params, **changes)).rope_theta == theta


def test_a_folder_of_other_codes_is_refused(folder, foreign, lock, tmp_path):
    other = dataclasses.replace(lock, card=dataclasses.replace(lock.card, weights_sha256="1" * 64))
    with pytest.raises(UserError, match="was trained on codes of tokenizer"):
        import_folder(open_folder(folder), other, str(tmp_path / "x"))
    larger = dataclasses.replace(lock, card=dataclasses.replace(lock.card, codebook_size=1024))
    with pytest.raises(UserError, match=r"theirs has 128 tokens, .* 1024 codes"):
        import_folder(open_folder(foreign), larger, str(tmp_path / "x"))


def test_nothing_is_written_over(folder, run, lock):
    with pytest.raises(UserError, match="is already there: name another --out"):
        export(run, folder)
    with pytest.raises(UserError, match="has checkpoints already"):
        import_folder(open_folder(folder), lock, str(run.folder.root))


def test_the_commands_say_what_a_model_is(run, manifest, tmp_path):
    def call(*arguments):
        done = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    out = call("export", run.folder.root, "--out", tmp_path / "llama", "--dtype", "bfloat16", "--file-gb", "0.00002")
    assert "bfloat16" in out
    shown = call("show", tmp_path / "llama")
    assert "2 of width 32, feed-forward 48" in shown
    assert call("import", tmp_path / "llama", "-m", manifest, "--out", tmp_path / "again", "--begin", "none")
    assert "their first code" in call("show", tmp_path / "again")
    assert "tiny, step 7" in call("show", run.folder.root)


@pytest.mark.slow
def test_an_imported_run_is_evaluated_trained_on_and_teaches(foreign, lock, config, tmp_path):
    imported = import_folder(open_folder(foreign), lock, str(tmp_path / "imported"), "none")
    saved = open_run(tmp_path / "imported")
    scored = judge.judge(saved, lock, judge.here(imported.compute), stages=(), split="val", sentences=4, batch=None)
    assert set(scored.stages) == {"images", "sequences"}
    stage = StageConfig(steps=2, batch_sentences=8, learning_rate=0.0, final_learning_rate=0.0, context=64)
    short = dataclasses.replace(config, stages={"sequences": stage})
    train(dataclasses.replace(short, model=imported.model, start=str(tmp_path / "imported")), lock, tmp_path / "on")
    assert_same(open_run(tmp_path / "on").params(), saved.params())
    taught = dataclasses.replace(short, distill=DistillConfig(teacher=str(tmp_path / "imported")))
    train(taught, lock, tmp_path / "taught")
    assert open_run(tmp_path / "taught").step == 2


def test_an_imported_run_cannot_be_resumed_and_says_so(foreign, lock, config, tmp_path):
    imported = import_folder(open_folder(foreign), lock, str(tmp_path / "imported"))
    again = dataclasses.replace(config, model=imported.model)
    with pytest.raises(UserError, match="--from"):
        train(again, lock, tmp_path / "imported")


@pytest.mark.slow
def test_a_disk_that_fills_up_is_said_and_leaves_nothing(run, tmp_path):
    """Files may have 16 kB, so that writing fails as it does where no room is left."""
    command = f"ulimit -f 16; exec {sys.executable} -m visent model export {run.folder.root} --out {tmp_path / 'llama'}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "cannot write model.safetensors" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
