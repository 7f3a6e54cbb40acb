"""What a run says of itself: held-out scores by position, utilization, TensorBoard, and where it diverged."""

import contextlib
import dataclasses
import io
import json
import types

import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from flax import nnx
from PIL import Image

from manifests.commands.lineage import lineage
from manifests.corpus import Corpus
from manifests.lock import resolve
from manifests.testing import write_random_dataset
from tokenizer.load import load_card
from tokenizer.testing import tiny_tokenizer_dir
from trainer import batches, mesh, metrics, report
from trainer import model as llama
from trainer.commands.evaluate import evaluate
from trainer.config import ComputeConfig, StageConfig
from trainer.evaluate import heldout, judge, scores, tokens
from trainer.loop import train
from trainer.losses import TaskSums
from trainer.metrics import Diverged, Window
from trainer.run_folder import open_run
from trainer.step import StepMetrics
from trainer.throughput import Throughput
from visent.errors import UserError

TOKENS = 16  # of an image


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def short(config):
    """Three steps of images and three of sequences, evaluated after each second step."""
    images, sequences = (dataclasses.replace(stage, steps=3, warmup_steps=0) for stage in config.stages.values())
    return dataclasses.replace(config, stages={"images": images, "sequences": sequences}, evaluate_every=2)


@pytest.fixture(scope="module")
def done(tmp_path_factory, short, lock):
    """The folder of a run of both stages that failed in the second and went on."""
    folder = tmp_path_factory.mktemp("reported")
    real, failed = batches.batch, []

    def failing(corpus, stage, number, *rest):
        if stage == "sequences" and number == 2 and not failed:
            failed.append(number)
            raise UserError("shard gone")
        return real(corpus, stage, number, *rest)

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(UserError):
        patch.setattr(batches, "batch", failing)
        train(short, lock, folder)
    assert failed
    train(short, lock, folder)
    return folder


@pytest.fixture(scope="module")
def params(model):
    """Random parameters of the small model."""
    return llama.init(model, 0)


@pytest.fixture
def sentences():
    """Three random sentences of four images."""
    return np.random.default_rng(0).integers(0, 64, (3, 4 * TOKENS)).astype(np.uint16)


@pytest.mark.parametrize("limit", [10**6, 24])
def test_scores_of_tokens_are_those_of_the_softmax_of_all_logits(model, params, sentences, limit):
    compute = ComputeConfig(loss_chunk_tokens=limit)
    found = tokens.make_evaluation(model, compute, mesh.make_mesh(compute))(params, sentences)
    net = nnx.merge(llama.definition(model, compute), params)
    logits = np.asarray(net.logits(net.before(jnp.asarray(sentences, jnp.int32))), np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    right = np.take_along_axis(probabilities, sentences[..., None].astype(int), axis=-1)[..., 0]
    np.testing.assert_allclose(found.loss, -np.log(right), atol=1e-5)
    np.testing.assert_array_equal(found.correct, logits.argmax(axis=-1) == sentences)


def test_means_by_image_and_by_token_are_over_the_other_axes():
    loss = np.arange(2 * 6, dtype=np.float32).reshape(2, 6)  # two sentences of three images of two tokens
    hits = loss % 4 == 0
    found = scores.task_score(loss, hits, ("image", "edge", "image"), np.ones(6, bool))
    assert (found.sentences, found.tokens, found.loss) == (2, 12, 5.5)
    assert found.by_image.loss == (3.5, 5.5, 7.5)
    assert found.by_token.loss == (5.0, 6.0)
    assert found.by_image.accuracy == (0.25, 0.25, 0.25)
    assert found.by_token.accuracy == (0.5, 0.0)
    assert found.accuracy == 0.25
    assert found.by_image.perplexity == pytest.approx(np.exp([3.5, 5.5, 7.5]))
    assert found.to_json()["by_image"]["role"] == ["image", "edge", "image"]


def test_the_first_code_does_not_count_where_no_token_begins_a_sentence(model, lock, sentences):
    held = heldout.Heldout(codes=sentences[:, :TOKENS], task=np.zeros(3, np.int64), tasks=["photos"],
                           roles=[("image",)], missing=[])  # fmt: skip

    def nonsense_at_first(params, codes):
        loss = np.ones(codes.shape, np.float32)
        loss[:, 0] = 1000.0
        return tokens.TokenScores(jnp.asarray(loss), jnp.zeros(codes.shape, bool))

    bare = dataclasses.replace(model, begins_with=None)
    found = heldout.score(held, bare, nonsense_at_first, {}, 2)["photos"]
    assert (found.tokens, found.loss) == (3 * (TOKENS - 1), 1.0)
    assert np.isnan(found.by_token.loss[0])
    assert found.to_json()["by_token"]["loss"][:2] == [None, 1.0]


def test_scores_do_not_depend_on_the_size_of_batches(model, params, lock):
    held = heldout.read(Corpus(lock, split="val"), "sequences", 64)
    compute = ComputeConfig()
    score = tokens.make_evaluation(model, compute, mesh.make_mesh(compute))
    one, two = (heldout.score(held, model, score, params, size) for size in (1, 2))
    assert list(one) == ["photos", "edge"]
    for task, found in one.items():
        np.testing.assert_allclose(found.by_token.loss, two[task].by_token.loss, rtol=1e-5)
        assert found.accuracy == two[task].accuracy
    assert one["edge"].roles == ("image", "edge", "image", "edge")


def test_batches_of_an_evaluation_split_over_the_mesh_and_stay_within_bounds(lock):
    held = heldout.read(Corpus(lock, split="val"), "images", 64)

    assert len(held.codes) == 6
    sizes = [heldout.batch_size(held, parts, most) for parts, most in ((1, None), (4, None), (4, 6), (4, 1))]
    assert sizes == [6, 8, 4, 4]


def test_an_evaluation_has_scores_by_image_and_by_token_of_an_image(done):
    assert [line["step"] for line in lines_of(done / "eval.jsonl")] == [2, 3, 5, 6]
    images, sequences = (lines_of(done / "eval.jsonl")[n] for n in (1, 3))
    edge = sequences["per_task"]["edge"]
    assert edge["by_image"]["role"] == ["image", "edge"] * 2
    for name in ("loss", "accuracy", "perplexity"):
        assert (len(edge["by_image"][name]), len(edge["by_token"][name])) == (4, TOKENS)
    for part in ("by_image", "by_token"):
        assert np.mean(edge[part]["loss"]) == pytest.approx(edge["loss"], rel=1e-3)
    assert len(images["per_task"]["photos"]["by_image"]["loss"]) == 1


def test_a_line_of_metrics_has_memory_and_rates_but_no_utilization_of_an_unknown_chip(done, short):
    line = lines_of(done / "metrics.jsonl")[4]
    flops = short.model.flops_per_token(64)
    assert line["teraflops_per_device"] == pytest.approx(line["tokens_per_second"] * flops / 1e12)
    assert line["host_memory_bytes"] > 1e7
    assert "mfu" not in line
    assert "mfu_full" not in line
    per_task = [found["accuracy"] for found in line["per_task"].values()]
    assert min(per_task) <= line["accuracy"] <= max(per_task)


def test_tensorboard_has_every_step_of_a_resumed_run_once_as_metrics_jsonl_does(done):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(done / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    found.purge_orphaned_data = False
    found.Reload()
    lines = lines_of(done / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for name in ("loss", "learning_rate", "gradient_norm"):
        curve = [(event.step, event.value) for event in found.Scalars(f"train/{name}")]
        assert sorted(curve) == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines]
    assert {"throughput/tokens_per_second", "train_loss/edge", "heldout_perplexity/sequences/edge",
            "heldout_loss_by_image/sequences/edge/04"} <= set(found.Tags()["scalars"])  # fmt: skip
    assert [event.step for event in found.Scalars("heldout_loss/images/photos")] == [2, 3]
    assert [event.step for event in found.Images("heldout_by_position/sequences")] == [5, 6]
    (text,) = found.Tensors("config/text_summary")
    assert b'"name": "mini"' in text.tensor_proto.string_val[0]


def test_evaluate_gives_the_scores_of_the_run_s_last_evaluation(done, tmp_path):
    shown = run_evaluate(done, "--out", tmp_path, "--json")
    last = lines_of(done / "eval.jsonl")[3]
    assert shown["step"] == 6
    for task, score in shown["stages"]["sequences"]["per_task"].items():
        assert score["by_image"] == last["per_task"][task]["by_image"]
    assert shown["stages"]["sequences"]["without_rows"] == ["rare"]
    assert json.loads((tmp_path / "step-6-val.json").read_text()) == shown
    for stage in ("images", "sequences"):
        assert min(Image.open(tmp_path / f"step-6-val-{stage}.png").size) > 200


def test_evaluate_prints_a_row_for_each_image_and_takes_other_splits_and_stages(done):
    text = run_evaluate(done, "--stage", "sequences", "--split", "train", "--sentences", "3", "--batch", "2")
    for expected in ("rare", "depth", "split train", str(done / "evaluation" / "step-6-train-sequences.png")):
        assert expected in text
    assert "stage images" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stage", "sequence"], "did you mean 'sequences'"),
        (["--split", "test"], "unknown split 'test': known: train, val"),
        (["--set", "compute.tensor=3"], "there are 1"),
        (["--set", "model.layers=3"], "expected a setting of compute"),
    ],
)
def test_evaluate_refuses_what_it_cannot_do(done, options, message):
    with pytest.raises(UserError, match=message):
        run_evaluate(done, *options)


def test_evaluate_refuses_a_folder_that_is_a_file_before_it_scores(done, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(judge, "judge", None)  # it would be called in vain
    with pytest.raises(UserError, match=r"cannot make folder .*file"):
        run_evaluate(done, "--out", str(tmp_path / "file"))


def test_evaluate_refuses_shards_of_another_tokenizer(done, lock):
    other = dataclasses.replace(lock, card=dataclasses.replace(lock.card, weights_sha256="f" * 64))
    with pytest.raises(UserError, match=f"trained on tokens of tokenizer {lock.card.fingerprint}, the manifest has"):
        judge.judge(open_run(done), other, ComputeConfig(), stages=[], split="val", sentences=4)


def run_evaluate(run, *options):
    arguments = [str(run), *map(str, options)]
    done = CliRunner().invoke(evaluate, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


def h200(config, context, devices=8):
    return Throughput(model=config, context=context, devices=devices, device_kind="NVIDIA H200")


def test_utilization_is_the_model_s_flops_over_the_peak_counted_both_ways(model):
    matrices = 2 * (4 * 32 * 32 + 3 * 32 * 48) + 128 * 32
    causal, full = 6 * matrices + 6 * 2 * 32 * 64, 6 * matrices + 12 * 2 * 32 * 64
    found = h200(model, 64).figures(8e9)
    assert found["mfu"] == pytest.approx(1e9 * causal / 989e12)
    assert found["mfu_full"] == pytest.approx(1e9 * full / 989e12)
    assert found["teraflops_per_device"] == pytest.approx(1e9 * causal / 1e12)
    text = h200(model, 64).explanation()
    for part in (f"6 x {matrices:,} matrix parameters", "6 x 2 layers x 32 hidden x 64 context", "8 x 989 TFLOP/s",
                 "data sheet", f"{causal:.4g}", f"{full:.4g}"):  # fmt: skip
        assert part in text


def test_an_unknown_chip_has_no_utilization_and_the_run_says_so(model):
    unknown = dataclasses.replace(h200(model, 64), device_kind="NVIDIA H300")
    assert set(unknown.figures(1e6)) == {"teraflops_per_device"}
    assert unknown.explanation().startswith("no MFU: the peak of a 'NVIDIA H300' is not known; FLOPs of a token = ")


def test_a_line_in_words_has_the_losses_of_tasks_both_utilizations_and_memory(done):
    line = lines_of(done / "metrics.jsonl")[5]
    edge = f"edge {line['per_task']['edge']['loss']:.3f}"
    words = report.in_words({**line, "mfu": 0.412, "mfu_full": 0.5, "device_memory_bytes": 3 * 2**30})
    for part in (f"loss {line['loss']:.3f} (", edge, "tokens/s, waited", "MFU 41.2% causal, 50.0% full", "3.0 GiB"):
        assert part in words
    assert "MFU" not in report.in_words(line)


def step_metrics(loss, divergence=None):
    sums = TaskSums(*(jnp.array([x, 2 * x]) for x in (loss, 1.0, 4.0)), divergence)
    return StepMetrics(jnp.float32(loss), jnp.float32(1.0), jnp.float32(0.1), sums)


def test_a_pause_is_left_out_of_the_rate(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(metrics, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    window = Window(["a", "b"])
    window.add(1, step_metrics(2.0))
    clock[0] += 1.0
    with window.paused():
        clock[0] += 100.0
    window.add(2, step_metrics(2.0))
    clock[0] += 2.0
    line = window.flush(0.3)
    assert (line["tokens_per_second"], line["input_wait"]) == (2 * 12 / 3.0, pytest.approx(0.1))
    assert (line["steps"], line["loss"], line["accuracy"]) == (2, 0.5, 0.25)


def test_whatever_a_step_sums_becomes_a_mean_by_task():
    window = Window(["a", "b"])
    window.add(1, step_metrics(2.0, jnp.array([4.0, 0.0])))
    line = window.flush(0.0)
    assert line["divergence"] == pytest.approx(1 / 3)
    assert line["per_task"] == {"a": {"loss": 0.5, "accuracy": 0.25, "divergence": 1.0},
                                "b": {"loss": 0.5, "accuracy": 0.25, "divergence": 0.0}}  # fmt: skip
    assert "divergence 0.333" in report.in_words(line)


def test_divergence_names_the_tasks_whose_loss_is_not_finite():
    window = Window(["a", "b"])
    broken = step_metrics(2.0)
    window.add(7, broken._replace(loss=jnp.float32(np.nan), tasks=broken.tasks._replace(loss=jnp.array([1.0, np.nan]))))
    with pytest.raises(Diverged) as caught:
        window.flush(0.0)
    assert (caught.value.step, caught.value.tasks) == (7, ["b"])


def test_a_loss_that_is_not_finite_names_the_keys_that_lineage_lists(short, lock, tmp_path):
    hot = StageConfig(steps=4, batch_sentences=4, learning_rate=1e30, final_learning_rate=1e30)
    config = dataclasses.replace(short, stages={"sequences": hot}, checkpoint_every=1)
    with pytest.raises(UserError) as caught:
        train(config, lock, tmp_path)
    message = str(caught.value)
    command = message.partition("visent lineage ")[2].partition(" lists all of it")[0]
    step = int(command.split()[-1])
    assert f"is nan at step {step + 1} (stage 'sequences', sentences {4 * step} to {4 * step + 3})" in message
    assert f"last good checkpoint, step {step}, is kept" in message
    assert "\n" not in message
    found = json.loads(CliRunner().invoke(lineage, [*command.split(), "--json"], catch_exceptions=False).stdout)
    first = found["examples"][0]
    assert f"which read {first['task']} {first['key']}, " in message


@pytest.fixture(scope="module")
def drawable(tmp_path_factory):
    """A lock of pairs whose codes a small tokenizer can draw, and that tokenizer's folder."""
    folder = tmp_path_factory.mktemp("drawable")
    tokenizer = tiny_tokenizer_dir(folder)
    pair = {"image": "still", "edge": "still"}
    write_random_dataset(str(folder / "pairs"), pair, examples={"train": 12, "val": 8}, card=load_card(str(tokenizer)))
    (folder / "manifest.toml").write_text(
        'version = 1\n[datasets]\npairs = "pairs"\n'
        '[tasks.edge]\ndataset = "pairs"\nkind = "discriminative"\nsentence = ["image", "edge"]\n'
        "[stages.sequences]\ncontext = 64\nshare = { edge = 1.0 }\n"
    )
    return resolve(str(folder / "manifest.toml")), tokenizer


@pytest.mark.slow
def test_sheets_of_samples_are_drawn_at_intervals_and_at_a_stage_s_end(drawable, short, tmp_path):
    lock, tokenizer = drawable
    config = dataclasses.replace(short, stages={"sequences": short.stages["sequences"]}, evaluate_every=0,
                                 sample_every=2, sample_sentences=2, tokenizer=str(tokenizer))  # fmt: skip
    train(config, lock, tmp_path)
    names = ["sequences-0000002.png", "sequences-0000003.png"]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == names
    first = np.asarray(Image.open(tmp_path / "samples" / names[0]))
    assert first.std() > 5
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    shown = found.Images("samples/sequences")
    assert [event.step for event in shown] == [2, 3]
    np.testing.assert_array_equal(Image.open(io.BytesIO(shown[0].encoded_image_string)), first)


def test_samples_that_could_not_be_drawn_are_refused_before_training(drawable, lock, short, tmp_path):
    asking = dataclasses.replace(short, sample_every=2, tokenizer=str(drawable[1]))
    with pytest.raises(UserError, match=r"has fingerprint .*, the run was trained on tokens of"):
        train(asking, lock, tmp_path / "a")
    bare = dataclasses.replace(lock, datasets={name: training_only(found) for name, found in lock.datasets.items()})
    with pytest.raises(UserError, match=r"sample_every is 2, but no dataset has held-out rows"):
        train(asking, bare, tmp_path / "b")
    assert not (tmp_path / "a" / "metrics.jsonl").exists()


def training_only(dataset):
    return dataclasses.replace(dataset, shards=tuple(shard for shard in dataset.shards if shard.split == "train"))
