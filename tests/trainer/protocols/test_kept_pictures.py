"""Results as pictures and clips: named by their samples, and on a sheet beside the truth."""

import dataclasses
import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured_parts import cases_of, part_of, samples_of
from PIL import Image

from tokenizer.load import load
from tokenizer.testing import tiny_tokenizer_dir
from trainer import pictures
from trainer.protocols import decoded, kept_pictures
from trainer.protocols.kept_pictures import contact_sheet, keep_pictures, number_wanted
from visent.errors import UserError
from visent.untrusted.names import is_plain, plain_name


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load(tiny_tokenizer_dir(tmp_path_factory.mktemp("tokenizer")))


def test_every_result_is_a_picture_named_by_its_key(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_pictures, "TOGETHER", 3)
    cases = cases_of("images", tokenizer, 8)
    cases = dataclasses.replace(cases, keys=["../../escape", "a/b", "a-b", *(f"{i:06d}" for i in range(5))])
    samples = samples_of(cases, tmp_path)
    place = Path(keep_pictures(part_of("images", "fid"), cases, samples, tokenizer, tmp_path / "out"))
    names = sorted(path.name for path in place.iterdir())
    assert names == sorted(f"{plain_name(key)}.png" for key in cases.keys)
    assert len(names) == 8
    expected = decoded.results(cases, samples, tokenizer, np.arange(8))[:, 0]
    for key, pixels in zip(cases.keys, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(place / f"{plain_name(key)}.png")), pixels)


def test_only_the_first_are_kept_where_a_number_is_asked_for(tokenizer, tmp_path):
    cases = cases_of("images", tokenizer, 8)
    place = keep_pictures(part_of("images", "fid"), cases, samples_of(cases, tmp_path), tokenizer, tmp_path, most=3)
    assert sorted(path.stem for path in Path(place).iterdir()) == sorted(plain_name(key) for key in cases.keys[:3])


@pytest.mark.parametrize("video", ["mp4", "gif"])
def test_clips_are_films_of_all_their_frames(tokenizer, tmp_path, video):
    cases = cases_of("clips", tokenizer, 2)
    place = keep_pictures(part_of("clips", "fvd"), cases, samples_of(cases, tmp_path), tokenizer, tmp_path, video=video)
    films = sorted(Path(place).iterdir())
    assert [film.suffix for film in films] == [f".{video}"] * 2
    with av.open(str(films[0])) as film:
        assert len(list(film.decode(video=0))) == 3


@pytest.mark.parametrize(("text", "number"), [("all", None), ("0", 0), ("12", 12)])
def test_a_number_of_images_or_all_is_asked_for(text, number):
    assert number_wanted(text) == number


@pytest.mark.parametrize("text", ["-1", "some", "", "1.5", "²"])
def test_anything_else_is_no_number_of_images(text):
    with pytest.raises(UserError, match="expected a number of images"):
        number_wanted(text)


def test_what_was_given_of_half_an_image_is_shown_and_the_rest_is_grey(tokenizer):
    cases = cases_of("halves", tokenizer, 2)
    seen = decoded.given(cases, tokenizer, np.arange(2), 5)
    assert seen.shape == (2, 1, 32, 32, 3)
    assert (seen[:, :, 16:] == decoded.UNKNOWN).all()
    assert not (seen[:, :, :16] == decoded.UNKNOWN).all()


def test_of_long_prompts_the_last_images_are_shown(tokenizer):
    cases = cases_of("images", tokenizer, 2)
    seen = decoded.given(cases, tokenizer, np.arange(2), 2)
    expected = tokenizer.decode(cases.prompt[:, 16:].reshape(-1, 16)).reshape(2, 2, 32, 32, 3)
    np.testing.assert_array_equal(seen, expected)
    assert decoded.given(cases, tokenizer, np.arange(0), 2).shape[0] == 0


@pytest.mark.parametrize(("kind", "columns"), [("images", 6), ("clips", 3), ("halves", 4), ("labels", 6)])
def test_a_sheet_holds_prompt_result_truth_and_ceiling_of_each_sample(tokenizer, tmp_path, kind, columns):
    cases = cases_of(kind, tokenizer, 20)
    samples, part = samples_of(cases, tmp_path), part_of(kind, "psnr")
    sheet = np.asarray(contact_sheet(part, cases, samples, tokenizer, "a title")).astype(int)
    shown = kept_pictures.CLIPS if kind == "clips" else kept_pictures.STILLS
    numbers = np.linspace(0, 19, shown).round().astype(int)
    wanted = [cases.truth(numbers)[:, -1], decoded.ceiling(cases, tokenizer, numbers)[:, -1],
              decoded.results(cases, samples, tokenizer, numbers)[:, -1]]  # fmt: skip
    for group in wanted:
        assert all(_place(sheet, picture) for picture in group)
    assert sheet.shape[1] > columns * 32


def _place(sheet, picture):
    """Where on a sheet a picture is: (top, left), or None."""
    first = picture[0].astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (1, 32, 3))[:, :, 0, 0]
    for top, left in zip(*np.nonzero((windows == first).all(axis=(2, 3))), strict=True):
        if np.array_equal(sheet[top : top + 32, left : left + 32], picture):
            return int(top), int(left)
    return None


def test_of_long_clips_truth_and_ceiling_stand_below_what_was_generated():
    frames = np.random.default_rng(0).integers(0, 256, (38, 32, 32, 3), dtype=np.uint8)
    given, made, truth, best = np.split(frames, (5, 16, 27))
    drawn = np.asarray(pictures.strip(given, made, truth, title="a clip", ceiling=best)).astype(int)
    places = [_place(drawn, group[-1]) for group in (made, truth, best)]
    assert len({left for _, left in places}) == 1
    assert [top for top, _ in places] == sorted({top for top, _ in places})
    assert all(_place(drawn, frame) for frame in frames)


def test_a_sheet_of_fewer_samples_than_it_has_room_for_is_drawn(tokenizer, tmp_path):
    cases = cases_of("images", tokenizer, 1)
    sheet = contact_sheet(part_of("images", "fid"), cases, samples_of(cases, tmp_path), tokenizer, "one")
    file = io.BytesIO()
    sheet.save(file, "PNG")
    assert file.tell() > 1000


@given(st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True))
def test_names_of_files_stand_for_any_text_and_for_one_alone(texts):
    names = [plain_name(text) for text in texts]
    assert all(is_plain(name) for name in names)
    assert len(set(names)) == len(texts)
