"""Figures of parts of every kind: what they are made of, what is kept, and what several hosts find."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from measured_parts import LEGEND, cases_of, part_of, pictures, pooling, samples_of

from tokenizer.load import load
from tokenizer.testing import tiny_tokenizer_dir
from trainer.figures.moments import Moments
from trainer.protocols import judging
from trainer.protocols.figures_of import read_reference
from trainer.protocols.measuring import measure
from visent.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ("fid", "is", "psnr", "ssim")
NETWORKS = {"images": pooling("images"), "clips": pooling("clips", 1), "actions": pooling("clips", 1)}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load(tiny_tokenizer_dir(tmp_path_factory.mktemp("tokenizer")))


def results_of(cases, samples, tokenizer):
    """The pictures of the model and of the ceiling, all at once."""
    made = np.concatenate(
        (cases.prompt[:, len(cases.prompt[0]) - cases.kept :], samples.read(np.arange(len(cases)))), 1
    )
    shape = (len(cases), cases.frames, 32, 32, 3)
    return [tokenizer.decode(codes.reshape(-1, 16)).reshape(shape) for codes in (made, cases.truth_codes)]


def frechet(a, b):
    """By the textbook."""
    one, two = (np.cov(x, rowvar=False) + 1e-9 * np.eye(x.shape[1]) for x in (a.astype(float), b.astype(float)))
    root = scipy.linalg.sqrtm(one @ two).real
    return np.square(a.mean(0, dtype=float) - b.mean(0, dtype=float)).sum() + np.trace(one + two - 2 * root)


def values(measured):
    """Every number that was found, by figure and source."""
    return {
        (figure.name, source): getattr(figure, source).value
        for figure in measured.figures
        for source in ("model", "ceiling", "real")
        if getattr(figure, source) is not None
    }


def test_images_are_judged_against_real_pixels_and_the_ceiling_as_if_it_were_the_model(tokenizer, tmp_path):
    cases = cases_of("images", tokenizer, 70)
    samples = samples_of(cases, tmp_path)
    found = values(measure(part_of("images", *IMAGES), cases, samples, tokenizer, NETWORKS, tmp_path, pixels="a"))
    model, ceiling = results_of(cases, samples, tokenizer)
    real, mine, best = (NETWORKS["images"].run(x[:, 0]) for x in (cases.truth(np.arange(70)), model, ceiling))
    assert found["fid", "model"] == pytest.approx(frechet(mine.features, real.features), rel=1e-3)
    assert found["fid", "ceiling"] == pytest.approx(frechet(best.features, real.features), rel=1e-3)
    assert ("fid", "real") not in found
    for source, seen in (("real", real), ("model", mine), ("ceiling", best)):
        p = seen.probabilities.astype(float)
        assert found["is", source] == pytest.approx(np.exp((p * np.log(p / p.mean(0))).sum(1).mean()), rel=1e-9)
    error = np.square(model.astype(float) - cases.truth(np.arange(70))).mean(axis=(1, 2, 3, 4))
    assert found["psnr", "model"] == pytest.approx((10 * np.log10(255**2 / error)).mean(), rel=1e-6)
    assert found["ssim", "model"] < found["ssim", "ceiling"] < 1


def test_a_model_that_answers_the_truth_gets_the_ceilings_figures(tokenizer, tmp_path):
    cases = cases_of("images", tokenizer)
    samples = samples_of(cases, tmp_path, wrong=0)
    for figure in measure(
        part_of("images", *IMAGES), cases, samples, tokenizer, NETWORKS, tmp_path, pixels="a"
    ).figures:
        assert figure.model.value == figure.ceiling.value


def test_the_more_codes_are_wrong_the_worse_is_every_figure(tokenizer, tmp_path):
    """Over pictures that the tokenizer knows: its own, of an eighth of its codes."""
    cases, part = cases_of("images", tokenizer, 70), part_of("images", "fid", "psnr", "ssim")
    codes = np.random.default_rng(0).integers(0, 8, cases.truth_codes.shape).astype(np.uint16)
    truth = tokenizer.decode(codes)[:, None]
    cases = dataclasses.replace(cases, truth_codes=codes, truth=lambda numbers: truth[numbers])
    ladder = [
        values(measure(part, cases, samples_of(cases, tmp_path, wrong), tokenizer, NETWORKS, tmp_path, pixels="b"))
        for wrong in (0.05, 0.2, 0.6, 1.0)
    ]
    assert ladder[0]["ssim", "ceiling"] == pytest.approx(1)
    assert ladder[0]["fid", "ceiling"] == pytest.approx(0, abs=1e-6)
    fid, psnr, ssim = ([found[name, "model"] for found in ladder] for name in ("fid", "psnr", "ssim"))
    assert fid == sorted(fid)
    assert psnr == sorted(psnr, reverse=True)
    assert ssim == sorted(ssim, reverse=True)


def test_batches_do_not_change_figures(tokenizer, tmp_path, monkeypatch):
    cases, part = cases_of("images", tokenizer, 30), part_of("images", *IMAGES)
    samples = samples_of(cases, tmp_path)
    whole = values(measure(part, cases, samples, tokenizer, NETWORKS, tmp_path / "a", pixels="a"))
    monkeypatch.setattr(judging, "TOGETHER", 7)
    found = values(measure(part, cases, samples, tokenizer, NETWORKS, tmp_path / "b", pixels="the same"))
    assert found == pytest.approx(whole, rel=1e-10, abs=1e-8)  # SSIM is computed in float32 by batches


def test_clips_are_judged_whole_with_the_frames_that_were_given(tokenizer, tmp_path):
    cases, part = cases_of("clips", tokenizer), part_of("clips", "fvd", "clip-is", "fid")
    samples = samples_of(cases, tmp_path)
    found = values(measure(part, cases, samples, tokenizer, NETWORKS, tmp_path, pixels="a"))
    model, _ = results_of(cases, samples, tokenizer)
    real, mine = (NETWORKS["clips"].run(x).features for x in (cases.truth(np.arange(30)), model))
    assert found["fvd", "model"] == pytest.approx(frechet(mine, real), rel=1e-2, abs=1e-4)
    frames = [x.reshape(-1, 32, 32, 3) for x in (cases.truth(np.arange(30)), model)]
    real, mine = (NETWORKS["images"].run(x).features for x in frames)
    assert found["fid", "model"] == pytest.approx(frechet(mine, real), rel=1e-3, abs=1e-5)
    assert found["clip-is", "real"] >= 1


def test_a_network_of_two_slots_sees_each_clip_once(tokenizer, tmp_path):
    cases, asked = cases_of("clips", tokenizer, 12), []
    both = pooling("clips", counted=asked.append)
    measure(part_of("clips", "fvd", "clip-is"), cases, samples_of(cases, tmp_path), tokenizer,
            {"clips": both, "actions": both}, tmp_path, pixels="a")  # fmt: skip
    assert sum(asked) == 3 * 12


def test_an_image_of_halves_is_judged_with_the_half_that_was_given(tokenizer, tmp_path):
    cases = cases_of("halves", tokenizer, 12)
    samples = samples_of(cases, tmp_path, wrong=1.0)
    found = values(measure(part_of("halves", "psnr"), cases, samples, tokenizer, {}, tmp_path, pixels="a"))
    model, _ = results_of(cases, samples, tokenizer)
    error = np.square(model.astype(float) - cases.truth(np.arange(12))).mean(axis=(1, 2, 3, 4))
    assert found["psnr", "model"] == pytest.approx((10 * np.log10(255**2 / error)).mean(), rel=1e-6)


def test_label_maps_are_read_by_the_nearest_colour_and_ignored_labels_count_nowhere(tokenizer, tmp_path):
    cases = cases_of("labels", tokenizer, 12)
    samples = samples_of(cases, tmp_path)
    (figure,) = measure(part_of("labels", "miou"), cases, samples, tokenizer, {}, tmp_path, pixels="a").figures
    model, _ = results_of(cases, samples, tokenizer)
    ids = np.array(LEGEND.ids)
    true, mine = (
        ids[np.square(x[..., None, :].astype(int) - LEGEND.palette.astype(int)).sum(-1).argmin(-1)]
        for x in (cases.truth(np.arange(12)), model)
    )
    counts = true != 255
    iou = [(counts & (true == k) & (mine == k)).sum() / (counts & ((true == k) | (mine == k))).sum() for k in (0, 1, 2)]
    assert figure.model.value == pytest.approx(np.mean(iou), rel=1e-12)
    assert figure.details["model"]["IoU of grass"] == pytest.approx(iou[2], rel=1e-12)
    assert figure.details["model"]["pixel accuracy"] == pytest.approx((true == mine)[counts].mean(), rel=1e-12)
    assert figure.real is None
    assert figure.network is None


def test_masks_are_read_at_half_and_counted_by_class_too(tokenizer, tmp_path):
    cases = cases_of("foreground", tokenizer, 12)
    samples = samples_of(cases, tmp_path)
    (figure,) = measure(
        part_of("foreground", "foreground-miou"), cases, samples, tokenizer, {}, tmp_path, pixels="a"
    ).figures
    model, _ = results_of(cases, samples, tokenizer)
    true, mine = (x.astype(int).sum(-1) > 382.5 for x in (cases.truth(np.arange(12)), model))
    iou = (true & mine).sum(axis=(1, 2, 3)) / (true | mine).sum(axis=(1, 2, 3))
    assert figure.model.value == pytest.approx(iou.mean(), rel=1e-12)
    both, either = ((op(true[1::2], mine[1::2])).sum() for op in (np.logical_and, np.logical_or))
    assert figure.details["model"]["IoU of class 1"] == pytest.approx(both / either, rel=1e-12)


def test_a_second_model_takes_real_pictures_and_the_ceiling_from_what_is_kept(tokenizer, tmp_path):
    seen, read = [], []
    networks = {"images": pooling("images", counted=seen.append)}
    cases, part = cases_of("images", tokenizer, 20, read.append), part_of("images", "fid", "is")
    first = values(measure(part, cases, samples_of(cases, tmp_path), tokenizer, networks, tmp_path, pixels="a"))
    assert (sum(seen), sum(read)) == (60, 20)
    other = samples_of(cases, tmp_path, seed=1)
    second = values(measure(part, cases, other, tokenizer, networks, tmp_path / "elsewhere", pixels="a"))
    assert (sum(seen), sum(read)) == (80, 20)
    for source in ("ceiling", "real"):
        assert second["is", source] == first["is", source]
    assert second["fid", "model"] != first["fid", "model"]
    assert values(measure(part, cases, other, tokenizer, networks, tmp_path / "elsewhere", pixels="a")) == second
    assert sum(seen) == 80
    measure(part, cases, other, tokenizer, networks, tmp_path, pixels="changed")
    assert sum(seen) == 140


def test_a_new_network_is_shown_everything_and_an_old_one_nothing(tokenizer, tmp_path):
    seen, cases = [], cases_of("images", tokenizer, 20)
    samples, part = samples_of(cases, tmp_path), part_of("images", "fid", "psnr")
    measure(part, cases, samples, tokenizer, {"images": pooling("images")}, tmp_path, pixels="a")
    measure(part, cases, samples, tokenizer, {"images": pooling("images", 5, seen.append)}, tmp_path, pixels="a")
    assert sum(seen) == 60


def test_where_the_cache_cannot_be_written_everything_is_kept_beside_the_results(tokenizer, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VISENT_CACHE", str(tmp_path / "file"))
    cases = cases_of("images", tokenizer, 12)
    measure(part_of("images", "fid"), cases, samples_of(cases, tmp_path), tokenizer, NETWORKS, tmp_path, pixels="a")
    assert len(list((tmp_path / "sums").iterdir())) == 3


def test_sums_that_were_damaged_are_made_again(tokenizer, tmp_path):
    cases, part = cases_of("images", tokenizer, 20), part_of("images", *IMAGES)
    samples = samples_of(cases, tmp_path)
    first = values(measure(part, cases, samples, tokenizer, NETWORKS, tmp_path, pixels="a"))
    kept = sorted([*(tmp_path / "sums").iterdir(), *Path(os.environ["VISENT_CACHE"], "sums").iterdir()])
    assert len(kept) == 8
    for number, path in enumerate(kept):
        data = path.read_bytes()
        middle = len(data) // 2
        path.write_bytes(
            [data[: -9 - number], b"", data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]][number % 3]
        )
    assert values(measure(part, cases, samples, tokenizer, NETWORKS, tmp_path, pixels="a")) == first


def test_without_its_network_a_figure_says_which_one_is_wanted(tokenizer, tmp_path):
    cases = cases_of("images", tokenizer, 12)
    fid, psnr = measure(
        part_of("images", "fid", "psnr"), cases, samples_of(cases, tmp_path), tokenizer, {}, tmp_path, pixels="a"
    ).figures
    assert fid.model is None
    assert "no network for FID and Inception Score of images was given with --network images=WHERE" in fid.missing
    assert "Inception-v3 of 2015-12-05" in fid.missing
    assert psnr.model is not None


def test_a_network_without_classes_gives_no_inception_score(tokenizer, tmp_path):
    cases = cases_of("images", tokenizer, 12)
    networks = {"images": dataclasses.replace(pooling("images"), classes=None)}
    fid, score = measure(
        part_of("images", "fid", "is"), cases, samples_of(cases, tmp_path), tokenizer, networks, tmp_path, pixels="a"
    ).figures
    assert fid.model is not None
    assert "pooling 0 names no classes" in score.missing


def test_a_network_that_judges_no_clips_so_short_leaves_the_other_figures(tokenizer, tmp_path):
    cases = cases_of("clips", tokenizer, 12)
    of_nine = dataclasses.replace(NETWORKS["clips"], fewest_frames=9)
    of_two = dataclasses.replace(NETWORKS["actions"], fewest_frames=2, most_frames=2)
    fvd, score, fid, psnr = measure(
        part_of("clips", "fvd", "clip-is", "fid", "psnr"), cases, samples_of(cases, tmp_path), tokenizer,
        {**NETWORKS, "clips": of_nine, "actions": of_two}, tmp_path, pixels="a",
    ).figures  # fmt: skip
    assert (fvd.missing, score.missing) == (
        "pooling 1 judges clips of 9 frames or more, these have 3", "pooling 1 judges clips of 2 frames, these have 3",
    )  # fmt: skip
    assert None not in (fid.model, psnr.model)


def test_few_samples_are_explained_and_one_gives_no_distance(tokenizer, tmp_path):
    cases = cases_of("images", tokenizer, 12)
    fid, score = measure(part_of("images", "fid", "is"), cases, samples_of(cases, tmp_path), tokenizer, NETWORKS,
                         tmp_path, pixels="a").figures  # fmt: skip
    assert "biased upwards" in fid.warnings[0]
    assert score.model.spread is None  # one part
    one = cases_of("images", tokenizer, 1)
    fid, psnr = measure(part_of("images", "fid", "psnr"), one, samples_of(one, tmp_path / "one"), tokenizer, NETWORKS,
                        tmp_path, pixels="a").figures  # fmt: skip
    assert "from 1 samples" in fid.missing
    assert psnr.model is not None


def test_statistics_of_a_file_take_the_place_of_the_datas_own(tokenizer, tmp_path):
    cases, part = cases_of("images", tokenizer, 70), part_of("images", "fid")
    samples, moments = samples_of(cases, tmp_path), Moments(48)
    other = NETWORKS["images"].run(pictures(90, 1, "images", seed=9)[:, 0]).features
    moments.add(other)
    np.savez(tmp_path / "stats.npz", mu=moments.statistics.mean, sigma=moments.statistics.covariance)
    (figure,) = measure(part, cases, samples, tokenizer, NETWORKS, tmp_path, pixels="a",
                        reference=read_reference(tmp_path / "stats.npz")).figures  # fmt: skip
    model, _ = results_of(cases, samples, tokenizer)
    real, mine = (NETWORKS["images"].run(x[:, 0]).features for x in (cases.truth(np.arange(70)), model))
    assert figure.model.value == pytest.approx(frechet(mine, other), rel=1e-3)
    assert figure.real.value == pytest.approx(frechet(real, other), rel=1e-3)
    assert any("stats.npz" in warning for warning in figure.warnings)


def test_a_reference_of_another_network_is_no_reference(tokenizer, tmp_path):
    cases, moments = cases_of("images", tokenizer, 12), Moments(3)
    moments.add(np.random.default_rng(0).standard_normal((9, 3)))
    np.savez(tmp_path / "stats.npz", mu=moments.statistics.mean, sigma=moments.statistics.covariance)
    (figure,) = measure(part_of("images", "fid"), cases, samples_of(cases, tmp_path), tokenizer, NETWORKS, tmp_path,
                        pixels="a", reference=read_reference(tmp_path / "stats.npz")).figures  # fmt: skip
    assert "a reference of 3 features" in figure.missing


def test_another_tokenizers_codes_and_maps_without_a_legend_are_refused(tokenizer, tmp_path):
    cases = cases_of("labels", tokenizer, 3)
    samples, part = samples_of(cases, tmp_path), part_of("labels", "miou")
    with pytest.raises(UserError, match="no legend of colours"):
        measure(part, dataclasses.replace(cases, legend=None), samples, tokenizer, {}, tmp_path, pixels="a")
    with pytest.raises(UserError, match="16 codes are not 2 images of 16: give the tokenizer of the run"):
        measure(part, dataclasses.replace(cases, frames=2), samples, tokenizer, {}, tmp_path, pixels="a")


def test_a_true_map_with_colours_outside_of_the_legend_is_refused(tokenizer, tmp_path):
    cases = cases_of("labels", tokenizer, 3)
    strange = dataclasses.replace(cases, truth=lambda numbers: cases.truth(numbers) + np.uint8(3))
    with pytest.raises(UserError, match=r"labels 0: .*outside the colour map"):
        measure(part_of("labels", "miou"), strange, samples_of(cases, tmp_path), tokenizer, {}, tmp_path, pixels="a")


def test_it_says_where_the_time_went(tokenizer, tmp_path):
    cases = cases_of("images", tokenizer, 12)
    found = measure(part_of("images", "fid"), cases, samples_of(cases, tmp_path), tokenizer, NETWORKS, tmp_path,
                    pixels="a")  # fmt: skip
    assert set(found.seconds) == {"reading", "decoding", "features", "figures"}
    assert found.samples == 12


@pytest.mark.slow
def test_two_hosts_find_what_one_does(tokenizer, tmp_path):
    with socket.socket() as found:
        found.bind(("localhost", 0))
        coordinator = f"localhost:{found.getsockname()[1]}"
    env = os.environ | {"PYTHONPATH": str(ROOT), "SLURM_STEP_NUM_TASKS": "1", "OMPI_COMM_WORLD_SIZE": "1"}
    codec = tiny_tokenizer_dir(tmp_path)
    script = str(Path(__file__).with_name("measure_on.py"))
    asked = [{"out": str(tmp_path / "one")}] + [
        {"out": str(tmp_path / "two"), "hosts": {"count": 2, "index": i, "coordinator": coordinator}} for i in (0, 1)
    ]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen([sys.executable, script, json.dumps({"tokenizer": str(codec), **one})],
                         env=env, text=True, stdout=pipe, stderr=pipe)
        for one in asked
    ]  # fmt: skip
    said = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    one, *two = (json.loads(out.splitlines()[-1]) for out, _ in said)
    assert two[0] == two[1]
    assert two[0] == pytest.approx(one, rel=1e-10)
    places = (tmp_path / "one" / "sums", Path(os.environ["VISENT_CACHE"], "sums"), tmp_path / "two" / "sums")
    names = [{path.name for path in place.iterdir()} for place in places]
    assert names[0] | names[1] == names[2]  # hosts share no cache
