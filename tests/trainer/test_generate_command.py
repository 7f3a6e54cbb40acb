"""`visent generate` on a run of random weights over codes that can be decoded: every prompt, and what it writes."""

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from manifests.corpus import Corpus
from manifests.lock import resolve
from manifests.testing import write_random_dataset
from tokenizer import images
from tokenizer.load import load, load_card
from tokenizer.testing import tiny_tokenizer_dir
from trainer import model as llama
from trainer import movies, pictures, recipes, sampling
from trainer.checkpoint import Checkpoints, Keep
from trainer.commands.generate import generate as command
from trainer.config import StageConfig
from trainer.prompts import from_task
from trainer.run_facts import RunFacts
from trainer.run_folder import RunFolder
from visent.errors import UserError

MANIFEST = """\
version = 1

[datasets]
pairs = "pairs"
clips = "clips"

[tasks.edge]
dataset = "pairs"
kind = "discriminative"
sentence = ["image", "edge"]

[tasks.walk]
dataset = "clips"
kind = "natural"
sentence = ["frames"]

[stages.sequences]
context = 128
share = { edge = 0.5, walk = 0.5 }
"""
STAGES = ["sequences"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model):
    """The folder of a run at 8 images of 16 codes, and that of its tokenizer."""
    folder = tmp_path_factory.mktemp("decodable")
    tokenizer = tiny_tokenizer_dir(folder)
    card, split = load_card(str(tokenizer)), {"train": 8, "val": 6}
    write_random_dataset(str(folder / "pairs"), {"image": "still", "edge": "still"}, examples=split, card=card)
    write_random_dataset(str(folder / "clips"), {"frames": "clip"}, examples=split, card=card)
    (folder / "manifest.toml").write_text(MANIFEST)
    lock = resolve(str(folder / "manifest.toml"))
    stage = StageConfig(steps=1, batch_sentences=2, learning_rate=0.0, final_learning_rate=0.0, context=128)
    config = dataclasses.replace(recipes.make("tiny"), model=model, stages={"sequences": stage})
    facts = RunFacts(config=config, lock_digest=lock.digest, fingerprint=lock.card.fingerprint, stage="sequences")
    run = RunFolder(str(folder / "run"))
    run.write(facts, lock)
    with Checkpoints(run.checkpoints, Keep()) as checkpoints:
        checkpoints.save_params(3, llama.init(model, 0), facts)
    return folder / "run", tokenizer


@pytest.fixture
def run(trained, tmp_path):
    """Calls the command on the run; returns its folder and what generated.json says."""

    def call(*arguments):
        options = ["--out", tmp_path / "out", "--tokenizer", trained[1], *arguments]
        result = CliRunner().invoke(command, [str(trained[0]), *map(str, options)])
        if result.exception:
            raise result.exception
        assert "sheet.png" in result.output
        return tmp_path / "out", json.loads((tmp_path / "out" / "generated.json").read_text())

    return call


def picture(path, shade):
    """Writes a picture that is not square."""
    made = Image.new("RGB", (50, 40), (shade, 100, 200 - shade))
    ImageDraw.Draw(made).ellipse((5, 5, 30, 30), (255, shade, 0))
    made.save(path)
    return str(path)


@pytest.fixture
def clip(tmp_path):
    """A clip of 2 seconds at 10 frames a second: frame i has the grey 12 i."""
    frames = np.stack([np.full((32, 48, 3), 12 * i, np.uint8) for i in range(20)])
    movies.write_movie(frames, tmp_path / "clip.mp4", 10.0)
    return tmp_path / "clip.mp4"


def codes_of(trained, *paths):
    """The codes of files, by the tokenizer alone."""
    codec = load(str(trained[1]))
    pixels = [images.prepare(images.decode_image(Path(path).read_bytes()), "crop", 32) for path in paths]
    return codec, codec.encode(np.stack(pixels))


def test_held_out_sentences_become_strips_images_and_a_sheet(run):
    out, facts = run("--task", "edge", "--count", 2)
    assert [sample["picture"] for sample in facts["samples"]] == ["edge-000.png", "edge-001.png"]
    for number, sample in enumerate(facts["samples"]):
        assert [label.split()[0] for label in sample["images"]] == ["image", "edge"] * 4
        assert len(sample["codes"]) == 16
        assert 0 <= sample["same_codes_as_truth"] <= 1
        assert sample["generated"] == [f"images/edge-{number:03d}-0.png"]
        with Image.open(out / sample["generated"][0]) as alone, Image.open(out / sample["picture"]) as strip:
            assert alone.size == (32, 32)
            assert strip.width > 9 * 32
    expected = {"edge-000.png", "edge-001.png", "images", "sheet.png", "generated.json"}
    assert {path.name for path in out.iterdir()} == expected


def test_the_generated_image_is_the_decoded_codes(run, trained):
    out, facts = run("--task", "edge", "--count", 1)
    codes = np.array(facts["samples"][0]["codes"], np.uint16)
    with Image.open(out / facts["samples"][0]["generated"][0]) as alone:
        np.testing.assert_array_equal(np.asarray(alone), load(str(trained[1])).decode(codes[None])[0])


def test_a_clip_of_a_task_is_given_to_a_third_and_played_whole(run):
    out, facts = run("--task", "walk", "--count", 1, "--video", "gif", "--fps", 4)
    assert len(facts["samples"][0]["codes"]) == 6 * 16
    with Image.open(out / facts["samples"][0]["clip"]) as movie:
        assert (movie.n_frames, movie.size, movie.info["duration"]) == (8, (32, 32), 250)


def test_a_person_s_clip_goes_on_after_its_first_frames(run, clip, trained):
    out, facts = run("--clip", clip, "--frames-in", 2, "--frames-out", 3, "--fps", 5, "--start", 0.4, "--count", 2)
    sample = facts["samples"][1]
    assert sample["images"] == ["0.40 s", "0.60 s", "0.80 s", "1.00 s", "1.20 s"]
    assert len(sample["codes"]) == 3 * 16
    assert sample["same_codes_as_truth"] is not None
    with av.open(str(out / sample["clip"])) as movie:
        assert len(list(movie.decode(video=0))) == 5
        assert movie.streams.video[0].average_rate == 5


def test_frames_are_taken_by_time(clip):
    shades = [float(frame.mean()) for frame in movies.read_frames(str(clip), 4, 5.0, 0.4)]
    np.testing.assert_allclose(shades, [48, 72, 96, 120], atol=3)
    assert len(movies.read_frames(str(clip), 100, 50.0)) == 20  # none twice
    assert movies.read_frames(str(clip), 1, 5.0, 9.0) == []


def test_a_clip_that_ends_early_has_no_truth_and_one_too_short_is_refused(run, clip):
    _, facts = run("--clip", clip, "--frames-in", 5, "--frames-out", 3, "--fps", 3)
    assert facts["samples"][0]["same_codes_as_truth"] is None
    with pytest.raises(UserError, match=r"has 4 frames at 2 a second .* --frames-in is 5"):
        run("--clip", clip, "--fps", 2, "--frames-out", 3)


def test_a_text_file_is_no_clip(tmp_path):
    (tmp_path / "notes.txt").write_text("FFmpeg would draw these letters.\n" * 20)
    with pytest.raises(UserError, match=r"notes\.txt has no video that can be read .*: give a clip"):
        movies.read_frames(str(tmp_path / "notes.txt"), 2, 5.0)


def test_pairs_of_a_person_s_own_stand_before_the_query(run, tmp_path, trained, monkeypatch):
    paths = [picture(tmp_path / f"{name}.png", shade) for name, shade in (("a", 0), ("b", 90), ("c", 160), ("d", 30))]
    more = picture(tmp_path / "query.png", 200)
    seen = []
    plain = sampling.generate
    monkeypatch.setattr(sampling, "generate", lambda *a, **k: seen.append(a[2]) or plain(*a, **k))
    _, facts = run("--pair", *paths[:2], "--pair", *paths[2:], "--query", more, "--count", 3)
    _, codes = codes_of(trained, *paths, more)
    np.testing.assert_array_equal(seen[0], np.repeat(codes.reshape(1, -1), 3, axis=0))
    assert facts["samples"][2]["images"] == ["a.png", "b.png", "c.png", "d.png", "query.png"]
    assert len(facts["samples"][2]["codes"]) == 16


def test_the_lower_half_of_an_image_is_generated_below_the_given_codes(run, tmp_path, trained):
    path = picture(tmp_path / "face.png", 40)
    out, facts = run("--top-half", path, "--count", 2)
    codec, codes = codes_of(trained, path)
    for sample in facts["samples"]:
        assert len(sample["codes"]) == 8
        whole = np.concatenate((codes[0, :8], np.array(sample["codes"], np.uint16)))
        with Image.open(out / sample["generated"][0]) as alone:
            np.testing.assert_array_equal(np.asarray(alone), codec.decode(whole[None])[0])
    assert facts["samples"][0]["codes"] != facts["samples"][1]["codes"]


def test_images_come_from_nothing_in_any_batch(run):
    _, facts = run("--count", 3, "--images", 2, "--seed", 7)
    _, again = run("--count", 5, "--images", 2, "--seed", 7, "--batch", 2)
    assert [sample["codes"] for sample in facts["samples"]] == [sample["codes"] for sample in again["samples"]][:3]
    assert len(facts["samples"][0]["generated"]) == 2


def test_shots_say_how_many_pairs_are_given(trained):
    lock = sampling.load_run(trained[0]).lock
    corpus = Corpus(lock, split="val")
    whole = from_task(corpus, STAGES, "edge", 2)
    two = from_task(corpus, STAGES, "edge", 2, shots=2)
    assert (whole.prompt.shape[1], two.prompt.shape[1], two.new_tokens) == (7 * 16, 5 * 16, 16)
    np.testing.assert_array_equal(two.prompt, whole.prompt[:, : 5 * 16])
    np.testing.assert_array_equal(two.truth, whole.prompt[:, 5 * 16 : 6 * 16])
    assert from_task(corpus, STAGES, "edge", 1, shots=0).prompt.shape == (1, 16)
    with pytest.raises(UserError, match="expected 0 to 3"):
        from_task(corpus, STAGES, "edge", 1, shots=4)
    with pytest.raises(UserError, match="use --prompt-images"):
        from_task(corpus, STAGES, "walk", 1, shots=1)


def test_a_query_follows_held_out_pairs(run, tmp_path, trained, monkeypatch):
    path = picture(tmp_path / "mine.png", 120)
    seen = []
    plain = sampling.generate
    monkeypatch.setattr(sampling, "generate", lambda *a, **k: seen.append(a[2]) or plain(*a, **k))
    _, facts = run("--task", "edge", "--shots", 1, "--query", path, "--count", 2)
    pairs = from_task(Corpus(sampling.load_run(trained[0]).lock, split="val"), STAGES, "edge", 2, shots=1)
    np.testing.assert_array_equal(seen[0][:, :32], pairs.prompt[:, :32])
    np.testing.assert_array_equal(seen[0][:, 32:], np.repeat(codes_of(trained, path)[1], 2, axis=0))
    assert facts["samples"][0]["images"][2:] == ["mine.png", "edge"]
    assert facts["samples"][0]["same_codes_as_truth"] is None
    with pytest.raises(UserError, match="1 --query for task 'walk': expected none"):
        run("--task", "walk", "--query", path)
    with pytest.raises(UserError, match="2 --query for task 'edge': expected 1"):
        run("--task", "edge", "--query", path, "--query", path)


def test_a_sheet_shows_held_out_sentences_of_every_task(trained):
    run, codec = sampling.load_run(trained[0]), load(str(trained[1]))
    corpus = Corpus(run.lock, split="val")
    sheet = sampling.sample_sheet(run.params, run.config, corpus, codec, "sequences", 2, "step 3")
    assert sheet.width > 2 * 9 * 32


def test_a_sheet_leaves_out_what_would_begin_with_nothing_where_no_token_begins_sentences(trained, monkeypatch):
    run, codec = sampling.load_run(trained[0]), load(str(trained[1]))
    config = dataclasses.replace(run.config, model=dataclasses.replace(run.config.model, begins_with=None))
    whole = sampling.from_task

    def single(corpus, stages, task, count):
        found = whole(corpus, stages, task, count)
        return dataclasses.replace(found, prompt=found.prompt[:, :0])

    monkeypatch.setattr(sampling, "from_task", single)
    sheet = sampling.sample_sheet(run.params, config, Corpus(run.lock, split="val"), codec, "sequences", 1, "step 3")
    assert sheet is None


def test_a_picture_or_clip_that_cannot_be_written_is_one_line(tmp_path):
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    with pytest.raises(UserError, match=r"cannot write .*a\.png"):
        pictures.save(Image.fromarray(frames[0]), tmp_path / "gone" / "a.png")
    for name in ("a.mp4", "a.gif"):
        with pytest.raises(UserError, match=f"cannot write .*{name}"):
            movies.write_movie(frames, tmp_path / "gone" / name, 5.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "edge", "--clip", "x.mp4"], "--task and --clip: generate takes one kind of prompt"),
        (["--clip", "x.mp4", "--shots", 2], "--shots goes with --task, not with --clip"),
        (["--images", 2, "--task", "edge"], "--images goes with --prompt or no prompt, not with --task"),
        (["--frames-in", 2], "--frames-in goes with --clip, not with no prompt"),
        (["--pair", "a.png", "b.png"], "--pair needs one --query"),
        (
            ["--clip", "nothing.mp4", "--frames-out", 3],
            "clip nothing.mp4 has no video that can be read .No such file",
        ),
        (["--clip", "x.mp4"], "5 images given and 11 to be generated are more than the 8 that the model was trained"),
        (["--prompt", "nothing.png"], "picture nothing.png cannot be read: No such file"),
        (["--prompt", __file__], "is no usable image .not-an-image."),
        (["--clip", __file__, "--frames-out", 3], "has no video that can be read"),
        (["--task", "edges"], "did you mean 'edge'"),
        (["--count", 1, "--batch", 0], "--batch is 0: expected 1 or more"),
        (["--images", 9], "9 to be generated are more than the 8"),
    ],
)
def test_a_mistake_is_told(run, arguments, message):
    with pytest.raises(UserError, match=message):
        run(*arguments)


def test_another_tokenizer_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="pass its folder with --tokenizer"):
        run("--task", "edge", "--tokenizer", tiny_tokenizer_dir(tmp_path, seed=1))
