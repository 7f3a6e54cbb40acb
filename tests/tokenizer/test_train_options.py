"""Runs with everything switched on: exact resume, one device or several, starts from a tokenizer, lost runs."""

import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from jax.sharding import Mesh
from PIL import Image
from small_run import CONFIG, read

from tokenizer.testing import TINY, random_model
from tokenizer.training import codebook as learn
from tokenizer.training.config import TrainConfig
from tokenizer.training.loop import Trainer, graphs
from tokenizer.training.losses import pixel_loss
from tokenizer.training.perceptual import Perceptual
from tokenizer.training.pictures import Pictures
from tokenizer.training.recipes import RECIPES, default_recipe, f16_8192_recipe
from tokenizer.training.resume import restore_state, save_state
from tokenizer.training.run import Run, means, recipe_text
from tokenizer.training.state import draw, new_state
from tokenizer.training.step import Phase, Program, phase_of, scale, update
from tokenizer.vqgan import F16_8192, SMALL, VQGAN
from visent.errors import UserError

EVERYTHING = dataclasses.replace(
    CONFIG,
    steps=8,
    free_steps=0,
    activations="bfloat16",
    codebook="gradient",
    perceptual_weight=0.5,
    perceptual_crop=8,
    perceptual_depth=2,
    adversarial_weight=0.8,
    full_every=0,
)


VGG_SHAPES = [[(3, 64), (64, 64)], [(64, 128), (128, 128)], [(128, 256), (256, 256), (256, 256)]]
VGG_SHAPES += [[(256, 512), (512, 512), (512, 512)], [(512, 512)] * 3]
LAST = ("decoder", "conv_out", "kernel")


def network() -> Perceptual:
    """Two small stages; the real one's files and widths have tests of their own."""
    rng = np.random.default_rng(0)
    kernels = [[jnp.asarray(rng.normal(0, 0.4, (3, 3, a, 4)), jnp.float32)] for a in (3, 4)]
    return Perceptual(kernels, [[jnp.zeros(4)]] * 2, [jnp.ones(4)] * 2, caffe=False)


def everything(pictures: Pictures) -> Trainer:
    return Trainer(EVERYTHING, pictures, perceptual=network())


@pytest.mark.slow
def test_a_resumed_run_is_the_undisturbed_one_with_every_option_on(photos: Pictures, tmp_path: Path) -> None:
    trainer, figures = everything(photos), []
    for step, values in enumerate(trainer.run(), start=1):
        figures.append({name: float(value) for name, value in values.items()})
        if step == 4:
            save_state(tmp_path / "state.safetensors", trainer)
    assert {"psnr", "lpips", "hinge", "adversarial", "adversarial_weight", "usage", "perplexity"} <= set(figures[0])
    assert all(np.isfinite(list(values.values())).all() for values in figures)
    again = everything(photos)
    restore_state(tmp_path / "state.safetensors", again)
    assert [{name: float(value) for name, value in values.items()} for values in again.run()] == figures[4:]
    for ours, theirs in zip(jax.tree.leaves(again.state), jax.tree.leaves(trainer.state), strict=True):
        assert ours.dtype in (jnp.float32, jnp.int32)
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_the_adversarial_weight_compares_gradients_of_the_last_layer(photos: Pictures) -> None:
    """Against plain gradients of both losses by the last kernel, taken through the whole network."""
    config = dataclasses.replace(EVERYTHING, activations="float32", perceptual_weight=0.0)
    trainer = Trainer(config, photos)
    trainer._place_codebook()
    params, images = jax.tree.map(jnp.copy, trainer.state.params), scale(photos.crops((config.seed, 0), 8, config.crop))
    judge = nnx.merge(trainer.program.discriminator, jax.tree.map(jnp.copy, trainer.state.discriminator))

    def made(kernel: jax.Array) -> jax.Array:
        flat = [(p, v.replace(kernel) if p == LAST else v) for p, v in nnx.to_flat_state(params)]
        model = nnx.merge(trainer.program.graph, nnx.from_flat_state(flat))
        return model.reconstruct(model.codebook[...][model.quantize(model.latents(images))])

    kernel = params["decoder"]["conv_out"]["kernel"][...]
    reconstruction = jax.jit(jax.grad(lambda k: pixel_loss(images, made(k), config)))(kernel)
    adversarial = jax.jit(jax.grad(lambda k: -jnp.mean(judge(made(k)))))(kernel)
    expected = 0.8 * np.linalg.norm(reconstruction) / np.linalg.norm(adversarial)
    figures = next(trainer.run())
    assert float(figures["adversarial_weight"]) == pytest.approx(expected, rel=1e-3)


DEVICES = """
import sys, dataclasses, json
sys.path[:0] = [{tests!r}]
from pathlib import Path
import jax
from small_run import CONFIG, read
from test_train_options import EVERYTHING, network
from tokenizer.training.loop import Trainer, graphs
config = dataclasses.replace(EVERYTHING, activations="float32", steps=3)
trainer = Trainer(config, read(Path({photos!r})), perceptual=network())
print(json.dumps([jax.device_count(), [{{k: float(v) for k, v in f.items()}} for f in trainer.run()]]))
"""


@pytest.mark.slow
def test_four_devices_give_the_losses_of_one(photo_folder: Path) -> None:
    results = []
    for devices in (1, 4):
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        code = DEVICES.format(tests=str(Path(__file__).parent), photos=str(photo_folder))
        environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout.splitlines()[-1]))
    (one, figures), (four, spread) = results
    assert (one, four) == (1, 4)
    for ours, theirs in zip(figures, spread, strict=True):
        for name in ("psnr", "commitment", "lpips", "hinge", "usage"):
            assert ours[name] == pytest.approx(theirs[name], rel=2e-3, abs=2e-3), name


PROCESSES = """
import sys, dataclasses
sys.path[:0] = [{tests!r}]
from pathlib import Path
import jax
processes, number, port = map(int, sys.argv[1:])
if processes > 1:
    jax.distributed.initialize(f"127.0.0.1:{{port}}", processes, number)
from small_run import CONFIG, read
from tokenizer.training.loop import Trainer, graphs
from tokenizer.training.run import Run, means, recipe_text
from tokenizer.training.state import draw, new_state
trainer = Trainer(dataclasses.replace(CONFIG, steps=4), read(Path({photos!r})))
assert jax.device_count() == processes and trainer._batch(0).shape[0] == 8 // processes
Run(trainer, Path({out!r}) / str(processes), "mine", {{}}).train()
"""


@pytest.mark.slow
def test_two_processes_train_the_tokenizer_of_one(photo_folder: Path, tmp_path: Path) -> None:
    code = PROCESSES.format(tests=str(Path(__file__).parent), photos=str(photo_folder), out=str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for processes in (1, 2):
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(processes), str(number), port],
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for number in range(processes)
        ]
        errors = [process.communicate()[1] for process in started]
        assert [process.returncode for process in started] == [0] * processes, errors
    logs = [(tmp_path / str(n) / "training" / "metrics.jsonl").read_text().splitlines() for n in (1, 2)]
    one, two = (json.loads(lines[-1])["held_out"]["photos"] for lines in logs)
    assert len(logs[1]) == 1  # written once
    assert two["psnr"] == pytest.approx(one["psnr"], rel=1e-3)


def test_the_card_names_what_was_changed_in_the_recipe() -> None:
    assert recipe_text(default_recipe(seed=3)) == "visent tokenizer train, recipe default, seed 3"
    config = default_recipe(codebook="gradient", steps=300, rendering_shares=(0.2, 0.1))
    assert recipe_text(config).endswith("seed 0; changed: rendering_shares (0.2, 0.1), steps 300, codebook gradient")
    small = default_recipe(network=dataclasses.replace(SMALL, codebook_size=512))
    assert recipe_text(small).endswith("changed: network.codebook_size 512")


def test_means_are_of_the_steps_that_had_the_figure() -> None:
    assert means([{"psnr": 1.0}, {"psnr": 2.0}, {"psnr": 6.0, "lpips": 0.5}]) == {"psnr": 3.0, "lpips": 0.5}


def test_batches_that_do_not_divide_among_devices_are_refused(photos: Pictures) -> None:
    trainer = object.__new__(Trainer)
    trainer.config = CONFIG
    with pytest.raises(UserError, match=r"batches of 2 and 8 images do not divide among 4 devices; .* multiple of 16"):
        trainer._check_devices(4)


def test_each_loss_begins_at_its_step() -> None:
    config = dataclasses.replace(EVERYTHING, steps=100, free_steps=10, perceptual_from=20, adversarial_from=30)
    phases = [phase_of(config, step) for step in (9, 10, 20, 30)]
    assert phases == [
        Phase(False, False, False),
        Phase(True, False, False),
        Phase(True, True, False),
        Phase(True, True, True),
    ]
    assert phase_of(dataclasses.replace(config, perceptual_weight=0.0), 50) == Phase(True, False, True)


def test_a_run_may_start_from_a_tokenizer(photos: Pictures) -> None:
    model = random_model(TINY, 0)
    config = dataclasses.replace(CONFIG, network=TINY, init="some tokenizer", free_steps=0)
    trainer = Trainer(config, photos, init=model)
    np.testing.assert_array_equal(trainer.model().codebook[...], model.codebook[...])
    np.testing.assert_array_equal(trainer.state.sums / trainer.state.counts[:, None], model.codebook[...])
    images = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3))
    np.testing.assert_array_equal(trainer.model().latents(images), model.latents(images))


def test_dead_codes_of_a_gradient_codebook_are_moved_and_the_others_stay() -> None:
    book, features = jnp.array([[1.0, 0.0], [9.0, 9.0], [5.0, 5.0]]), jnp.array([[1.0, 0.2], [4.0, 5.0]])
    counts = jnp.array([1.0, 0.01, 1.0])
    counts, moved, revived = learn.revive(counts, book, features, jnp.array([0, 2]), jax.random.key(0), CONFIG)
    assert int(revived) == 1
    np.testing.assert_array_equal(moved[jnp.array([0, 2])], book[jnp.array([0, 2])])
    assert moved[1].tolist() in features.tolist()
    np.testing.assert_allclose(counts, [0.99 + 0.01, 2 / 3, 0.99 + 0.01])


def test_use_of_the_codebook_counts_what_is_chosen_not_what_was_revived() -> None:
    frequency = jnp.array([4.0, 0.0, 0.0, 0.0])
    assert float(learn.usage(frequency, 4, CONFIG)) == 0.25
    assert float(learn.perplexity(frequency)) == pytest.approx(1)
    assert float(learn.perplexity(jnp.ones(4))) == pytest.approx(4)


@pytest.fixture
def one_colour(tmp_path: Path) -> Path:
    """Pictures that leave a codebook nothing to tell apart."""
    for number in range(6):
        (tmp_path / "grey").mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), (120, 120, 120)).save(tmp_path / "grey" / f"{number}.png")
    return tmp_path / "grey"


@pytest.mark.slow
def test_a_run_that_loses_its_codebook_stops_and_keeps_the_checkpoint(one_colour: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, codebook_decay=0.8, min_usage=0.6, patience=5)
    trainer = Trainer(config, read(one_colour, holdout=1))
    run = Run(trainer, tmp_path / "out", "grey", {})
    run.folder.mkdir(parents=True)
    save_state(run.folder / "state.safetensors", trainer)
    with pytest.raises(
        UserError, match=r"step \d+: the codebook is lost: .*% of 32 codes in use .*checkpoint.* step 0"
    ):
        run.train()
    assert int(safetensors.numpy.load_file(run.folder / "state.safetensors")[".step"]) == 0


@pytest.mark.slow
def test_a_run_that_diverges_stops_by_name(photos: Pictures, tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, photos)
    trainer.state = dataclasses.replace(trainer.state, params=jax.tree.map(lambda x: x * jnp.nan, trainer.state.params))
    with pytest.raises(UserError, match=r"step 1: .*psnr.* is no number.*no checkpoint was written yet"):
        Run(trainer, tmp_path, "broken", {}).train()
    assert not (tmp_path / "training" / "state.safetensors").exists()


def test_a_checkpoint_from_before_a_field_came_counts_as_its_default(photos: Pictures, tmp_path: Path) -> None:
    trainer, path = Trainer(CONFIG, photos), tmp_path / "state.safetensors"
    save_state(path, trainer)
    tensors = safetensors.numpy.load_file(path)
    old = {name: tensor for name, tensor in tensors.items() if name not in (".frequency", ".poor")}
    config = {k: v for k, v in dataclasses.asdict(CONFIG).items() if k not in ("codebook", "init", "betas")}
    safetensors.numpy.save_file(old, path, {"config": json.dumps(config), "pictures": photos.digest})
    restore_state(path, trainer)
    np.testing.assert_array_equal(trainer.state.frequency, trainer.state.counts)
    other = Trainer(dataclasses.replace(CONFIG, codebook="gradient"), photos)
    with pytest.raises(UserError, match="of another run: codebook changed"):
        restore_state(path, other)


def test_a_recipe_that_needs_a_perceptual_network_says_so(photos: Pictures) -> None:
    with pytest.raises(UserError, match=r"perceptual_weight 0.5, but no perceptual network.*--perceptual"):
        Trainer(EVERYTHING, photos)


def test_the_papers_recipe_fits_the_papers_network() -> None:
    config = f16_8192_recipe(steps=1000)
    assert config.network == F16_8192
    assert (config.network.grid, config.steps, config.recipe) == (16, 1000, "f16-8192")
    assert RECIPES["f16-8192"] is f16_8192_recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codebook": "em"}, "unknown codebook 'em': did you mean 'ema'"),
        ({"activations": "float16"}, "unknown activations 'float16'"),
        ({"adversarial_weight": 1.0, "discriminator_layers": 3}, "3 layers of discriminator need 24 pixels"),
        ({"perceptual_depth": 6}, "perceptual_depth 6"),
        ({"perceptual_crop": 4}, "too few pixels for 5 stages"),
        ({"frames_per_second": 0.0}, "rate above 0"),
    ],
)
def test_impossible_options_are_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainConfig(**{**{f.name: getattr(CONFIG, f.name) for f in dataclasses.fields(CONFIG)}, **change})


def test_the_network_computes_in_bfloat16_between_its_float32_weights(photos: Pictures) -> None:
    trainer = Trainer(dataclasses.replace(CONFIG, activations="bfloat16"), photos)
    training = nnx.merge(trainer.program.graph, trainer.state.params)

    def convolutions(model: VQGAN) -> list[str]:
        """The types of what the convolutions of a round trip give."""
        trip = jax.make_jaxpr(lambda images: model.reconstruct(model.latents(images)))(jnp.zeros((1, 16, 16, 3)))
        return re.findall(r":(\w+)\[[\d,]+\] = conv_general_dilated", str(trip))

    assert training.encoder.conv_in.kernel.dtype == jnp.float32
    assert len(convolutions(training)) > 20
    assert set(convolutions(training)) == {"bf16"}
    assert set(convolutions(trainer.model())) == {"f32"}


@pytest.mark.slow
def test_the_papers_step_fits_together() -> None:
    """Traced with the real sizes of network, discriminator and VGG16; nothing is compiled or run."""
    config = f16_8192_recipe(adversarial_from=0, perceptual="some weights")
    program = Program(config, *graphs(config), Mesh(np.array(jax.devices()[:1]), ("data",)))
    shapes = {}

    def step(images: jax.Array) -> None:
        kernels = [[jnp.zeros((3, 3, a, b)) for a, b in stage] for stage in VGG_SHAPES]
        heads = [jnp.ones(stage[-1][1]) for stage in VGG_SHAPES]
        vgg = Perceptual(kernels, [[jnp.zeros(b) for _, b in stage] for stage in VGG_SHAPES], heads, caffe=True)
        before = new_state(config, draw(config.network, 0))
        after, figures = update(program, phase_of(config, 1000), before, images, vgg)
        for name, state in (("before", before), ("after", after)):
            shapes[name] = jax.tree.map(lambda x: (x.shape, x.dtype), jax.tree.leaves(state))
        shapes["figures"] = set(figures)

    jax.make_jaxpr(step)(jax.ShapeDtypeStruct((config.batch_size, 256, 256, 3), jnp.uint8))
    assert shapes["before"] == shapes["after"]
    assert {"lpips", "hinge", "adversarial_weight", "perplexity"} <= shapes["figures"]
