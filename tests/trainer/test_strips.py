import numpy as np
import pytest
from PIL import Image

from manifests.corpus import Corpus
from trainer import pictures
from trainer.prompts import from_task
from visent.errors import UserError


def images(count, value, size=16):
    return np.full((count, size, size, 3), value, np.uint8)


def colours(picture):
    """The distinct greys of the images pasted, by row, from left to right."""
    pixels = np.asarray(picture)[..., 0]
    rows = []
    for line in pixels:
        found = [int(value) for value in line if value in (10, 20, 30)]
        groups = [found[i] for i in range(0, len(found), 16)]
        if len(found) % 16 == 0 and groups and (not rows or rows[-1] != groups):
            rows.append(groups)
    return rows


def test_prompt_generated_and_truth_stand_in_one_row():
    picture = pictures.strip(images(3, 10), images(1, 20), images(1, 30), ["a", "b", "c", "d"], "title")
    assert [10, 10, 10, 20, 30] in colours(picture)


def test_a_long_sentence_has_the_truth_under_what_was_generated():
    picture = pictures.strip(images(5, 10), images(11, 20), images(11, 30))
    pixels = np.asarray(picture)[..., 0]
    generated, truth = (np.flatnonzero((pixels == value).any(axis=0)) for value in (20, 30))
    np.testing.assert_array_equal(generated, truth)
    assert np.flatnonzero((pixels == 20).any(axis=1)).max() < np.flatnonzero((pixels == 30).any(axis=1)).min()


def test_a_prompt_without_images_and_an_unknown_truth_leave_nothing_behind():
    assert pictures.strip(images(0, 10), images(2, 20), None).width < 3 * 16 + 30


def test_a_picture_is_written_whole(tmp_path):
    pictures.save(pictures.strip(images(1, 10), images(1, 20), None), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        picture.load()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_pair_task_shows_all_but_the_last_image_and_a_single_image_nothing(lock):
    corpus = Corpus(lock, split="val")
    edge = from_task(corpus, ["images", "sequences"], "edge", 2)
    assert (edge.prompt.shape, edge.new_tokens) == ((2, 48), 16)
    expected = corpus.task_sentences("sequences", "edge", np.arange(2), 0)
    np.testing.assert_array_equal(np.concatenate((edge.prompt, edge.truth), axis=1), expected)
    assert from_task(corpus, ["images"], "photos", 2).prompt.shape == (2, 0)


def test_prompts_of_a_task_need_the_task_its_rows_and_room(lock):
    corpus, stages = Corpus(lock, split="val"), ["images", "sequences"]
    with pytest.raises(UserError, match="did you mean 'edge'"):
        from_task(corpus, stages, "edges", 1)
    with pytest.raises(UserError, match="no row in split 'val'"):
        from_task(corpus, stages, "rare", 1)
    with pytest.raises(UserError, match="expected 0 to 3"):
        from_task(corpus, stages, "edge", 1, prompt_images=4)


def test_a_sheet_has_every_strip_and_breaks_rows_where_they_are_full():
    strips = [pictures.strip(images(1, 10 * (i % 3 + 1), 128), images(1, 200, 128), None) for i in range(9)]
    pixels = np.asarray(pictures.sheet(strips, "title"))[..., 0]
    assert pixels.shape[1] <= pictures.SHEET_WIDTH
    assert all((pixels == value).sum() >= 3 * 128 * 128 for value in (10, 20, 30))
    assert ((pixels == 200).sum(axis=1) >= 128).sum() == 2 * 128


def test_thumbnails_are_averages_of_whole_pixels():
    small = pictures.thumbnails(np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3)).astype(np.uint8))
    assert small.shape == (2, 128, 128, 3)
    assert pictures.thumbnails(images(0, 1, 256)).shape == (0, 128, 128, 3)
    np.testing.assert_array_equal(pictures.thumbnails(images(1, 7, 32)), images(1, 7, 32))
