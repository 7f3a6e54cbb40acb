"""`visent evaluate --protocol` from options to files: what is judged, what is printed, and what is not made twice."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from evaluating import figures, found
from generating import write_run
from made_data import rows, write_data
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from manifests.lock import resolve
from manifests.pixels import PixelStore
from tokenizer.load import load, load_card
from trainer.protocols import catalog, results

ALL = ("walk", "edge", "labels", "alone")  # a part of clips, of images, of labels and of halves
EDGE = ("--part", "edge")


@pytest.fixture(scope="module")
def tasks(bench, tmp_path_factory):
    """The folder of an evaluation of all parts with all networks, and what was printed."""
    out = tmp_path_factory.mktemp("tasks") / "eval"
    return out, bench.call(*bench.networks, "--out", out)


def stamps(out: Path, *kinds: str) -> dict[str, int]:
    """When each file was written."""
    return {str(path): path.stat().st_mtime_ns for kind in kinds for path in (out / kind).rglob("*") if path.is_file()}


def row_of(evaluation, part):
    (row,) = [row for row in evaluation["rows"] if row["part"]["name"] == part]
    return row


def test_every_kind_of_part_has_its_figures_beside_the_ceilings(tasks):
    out, printed = tasks
    evaluation = found(out)
    wanted = {
        "walk": ["fvd", "clip-is", "psnr", "ssim"], "edge": ["psnr", "ssim", "fid"], "labels": ["miou", "fid"],
        "alone": ["fid", "is", "psnr", "ssim"],
    }  # fmt: skip
    assert [row["part"]["name"] for row in evaluation["rows"]] == list(ALL)
    for part, names in wanted.items():
        of = figures(evaluation, part)
        assert list(of) == names
        for figure in of.values():
            assert np.isfinite([figure["model"]["value"], figure["ceiling"]["value"]]).all()
            assert (figure["network"] is None) == (figure["name"] in ("miou", "psnr", "ssim"))
        assert f"\n{part} " in printed
    assert [network["slot"] for network in evaluation["networks"]] == ["images", "clips", "actions"]
    assert all("not the papers' network" in network["label"] for network in evaluation["networks"])
    assert list(evaluation["tokens"]["stages"]["sequences"]["per_task"]) == list(ALL)
    assert row_of(evaluation, "walk")["samples"] == len(
        PixelStore.open(row_of(evaluation, "walk")["dataset"], "val").keys
    )
    assert [line for line in printed.splitlines() if line.startswith(str(out))] == [
        str(out / f"evaluation.{ending}") for ending in ("json", "md", "html")
    ]


def test_the_closeness_of_results_is_what_scikit_image_says_of_the_same_pictures(tasks, bench):
    out, _ = tasks
    evaluation = found(out)
    store, tokenizer = PixelStore.open(str(bench.corpus / "photos"), "val"), load(bench.tokenizer)
    truth = store.read("edge", np.arange(len(store.keys)))[:, 0]
    (path,) = (out / "samples").glob("edge*/*/00000.npy")
    made = tokenizer.decode(np.load(path))
    values = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(truth, made, strict=True)]
    assert figures(evaluation, "edge")["psnr"]["model"]["value"] == pytest.approx(np.mean(values), rel=1e-9)
    ceiling = tokenizer.decode(tokenizer.encode(truth))
    values = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(truth, ceiling, strict=True)]
    assert figures(evaluation, "edge")["psnr"]["ceiling"]["value"] == pytest.approx(np.mean(values), rel=1e-9)


def test_results_are_read_back_from_the_json_and_stand_in_the_page_and_the_markdown(tasks):
    out, printed = tasks
    read = results.read(out / "evaluation.json")
    markdown, page = ((out / f"evaluation.{ending}").read_text() for ending in ("md", "html"))
    assert read.to_json() == json.loads((out / "evaluation.json").read_text())
    for row in read.rows:
        closeness = [figure for figure in row.figures if figure.name == "psnr"]
        for text in (printed, markdown, page):
            assert row.part.name in text
            assert all(f"{figure.model.value:.2f}" in text for figure in closeness)
    assert page.count("data:image/png;base64,") + page.count("data:image/webp;base64,") >= len(ALL)
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_same_command_again_finds_all_of_it_made(tasks, bench):
    out, _ = tasks
    before, evaluation = stamps(out, "samples", "sums"), found(out)
    assert len(before) > 12
    bench.call(*bench.networks, "--out", out)
    assert stamps(out, "samples", "sums") == before
    assert found(out) == evaluation


def test_figures_do_not_depend_on_the_batch(tasks, bench, tmp_path):
    bench.call(*bench.networks, "--out", tmp_path, "--batch", 3, *EDGE)
    assert figures(found(tmp_path), "edge") == figures(found(tasks[0]), "edge")


def test_of_a_papers_protocol_the_parts_without_data_say_which_commands_make_it(bench, tmp_path):
    printed = bench.call("--data", f"ade20k={bench.corpus / 'maps'}", f"--network=images={bench.images}", "--most", 4,
                         "--out", tmp_path, protocol="lvm-lite")  # fmt: skip
    evaluation = found(tmp_path)
    run = {row["part"]["name"] for row in evaluation["rows"] if not row["not_run"]}
    assert run == {"seg to image, ADE20K", "image to seg, ADE20K"}
    assert len(evaluation["rows"]) == 11
    assert {row["samples"] for row in evaluation["rows"]} == {0, 4}
    for row in evaluation["rows"]:
        data = row["part"]["data"]
        assert bool(row["not_run"]) == (data != "ade20k")
        assert data == "ade20k" or f"--data {data}=corpus/{data}" in row["not_run"]
        assert {paper["paper"] for paper in row["papers"]} == {"LVM-Lite"}
    for text in (" ".join(printed.split()), (tmp_path / "evaluation.md").read_text()):
        assert all(command in text for command in catalog.DATA["cityscapes"].commands("cityscapes"))
    assert "FID-like" in printed


def test_what_is_asked_for_otherwise_is_done_and_told(bench, tmp_path):
    bench.call(*EDGE, "--most", 3, "--pairs", 2, "--top-k", 5, "--temperature", 0.5, "--seed", 3, "--step", 7,
               "--keep-images", 2, "--out", tmp_path)  # fmt: skip
    (row,) = found(tmp_path)["rows"]
    assert row["part"]["pairs"] == 2
    assert row["part"]["sampling"] == {"top_k": 5, "temperature": 0.5, "seed": 3}
    assert row["samples"] == 3
    assert row["notes"][0].startswith("prompt of all samples: ")
    assert row["notes"][0].count(",") == 2  # two keys, and which is nearest
    kept = [path for path in (tmp_path / "images").rglob("*") if path.is_file()]
    assert len(kept) == 2
    assert all(Image.open(path).size == (32, 32) for path in kept)
    assert figures(found(tmp_path), "edge")["fid"]["model"] is None
    assert "--network images=" in figures(found(tmp_path), "edge")["fid"]["missing"]


@pytest.mark.parametrize("axes", ["top-k", pytest.param("pairs, top-k,temperature", marks=pytest.mark.slow)])
def test_a_sweep_has_a_point_for_each_setting_and_a_grid(bench, tmp_path, axes):
    printed = bench.call(*EDGE, "--most", 2, "--sweep", axes, "--out", tmp_path)
    sweeps = {sweep["axis"]: sweep["points"] for sweep in found(tmp_path)["sweeps"]}
    wanted = {"pairs": [1, 2, 3, 4, 5, 6], "top-k": [10, 64], "temperature": [0.1, 0.3, 0.5, 0.7, 0.9, 1.0]}
    own = figures(found(tmp_path), "edge")["psnr"]["model"]  # at one pair, all codes and temperature 1
    page = (tmp_path / "evaluation.html").read_text()
    assert list(sweeps) == [axis.strip() for axis in axes.split(",")]
    for axis, points in sweeps.items():
        assert [point["setting"] for point in points] == wanted[axis]
        assert {point["samples"] for point in points} == {2}
        values = [point["figures"][0]["model"] for point in points]
        assert values[0 if axis == "pairs" else -1] == own
        assert len({value["value"] for value in values}) > 1
        assert f"edge, by {axis}" in printed
        assert f"by {axis}" in page
    assert page.count("<svg") == 2 * len(sweeps)  # PSNR and SSIM


def test_statistics_of_a_file_take_the_place_of_the_datas_own(bench, tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.zeros(6), sigma=np.eye(6))
    reference = ("--reference", f"photos={tmp_path / 'stats.npz'}")
    bench.call(*EDGE, "--most", 5, f"--network=images={bench.images}", *reference, "--out", tmp_path)
    fid = figures(found(tmp_path), "edge")["fid"]
    assert fid["real"]["value"] > 0
    assert any("stats.npz" in warning for warning in fid["warnings"])


def test_rows_of_a_file_stand_beside_the_runs_own(bench, tmp_path):
    (tmp_path / "more.toml").write_text(
        '[[rows]]\npaper = "A paper"\nprotocol = "lvm-lite"\npart = "image to seg, ADE20K"\nmodel = "big"\n'
        'figure = "miou"\nvalue = 43.21\nsource = "page 7, table 3"\n'
    )
    printed = bench.call("--data", f"ade20k={bench.corpus / 'maps'}", "--part", "image to seg, ADE20K", "--most", 2,
                         "--papers", tmp_path / "more.toml", "--out", tmp_path, protocol="lvm-lite")  # fmt: skip
    assert "A paper (big)" in " ".join(printed.split())
    for text in (printed, (tmp_path / "evaluation.md").read_text(), (tmp_path / "evaluation.html").read_text()):
        assert "43.21" in text
        assert "page 7, table 3" in text


def test_a_prompt_is_rows_of_the_data_or_a_persons_own_pictures(bench, tmp_path):
    store = PixelStore.open(str(bench.corpus / "photos"), "val")
    bench.call(*EDGE, "--prompt", store.keys[0], "--out", tmp_path / "a")
    (row,) = found(tmp_path / "a")["rows"]
    assert row["notes"][0] == f"prompt of all samples: {store.keys[0]} of split val"
    assert row["samples"] == len(store.keys) - 1
    pictures = [store.read(role, np.array([0]))[0, 0] for role in ("image", "edge")]
    for name, picture in zip(("photo.png", "drawn.png"), pictures, strict=True):
        Image.fromarray(picture).save(tmp_path / name)
    bench.call(*EDGE, "--pair", tmp_path / "photo.png", tmp_path / "drawn.png", "--out", tmp_path / "b")
    (own,) = found(tmp_path / "b")["rows"]
    assert own["samples"] == len(store.keys)
    assert own["notes"][0] == "prompt of all samples: photo.png with drawn.png, own pictures"


def test_the_json_alone_is_printed_where_it_is_asked_for(bench, tmp_path):
    printed = bench.call(*EDGE, "--most", 2, "--json", "--out", tmp_path)
    assert json.loads(printed) == json.loads((tmp_path / "evaluation.json").read_text())


def test_two_runs_stand_in_one_table(bench, tasks, tmp_path):
    printed = bench.call(
        *bench.networks, *EDGE, "--top-k", 2, "--compare", tasks[0] / "evaluation.json", "--out", tmp_path
    )
    assert printed.count("run (mini, step 7)") >= 2
    page = (tmp_path / "evaluation.html").read_text()
    for out in (tasks[0], tmp_path):
        assert f"{figures(found(out), 'edge')['psnr']['model']['value']:.2f}" in page


def test_a_run_whose_corpus_holds_no_rows_out_is_judged_and_told_why_it_has_no_loss(bench, config, tmp_path):
    write_data(tmp_path / "rare", {"train": [rows("a", 4)]}, card=load_card(str(bench.tokenizer)), pixels=())
    (tmp_path / "manifest.toml").write_text(
        'version = 1\n[datasets]\nrare = "rare"\n[tasks.edge]\ndataset = "rare"\nkind = "discriminative"\n'
        'sentence = ["image", "edge"]\n[stages.sequences]\ncontext = 64\nshare = { edge = 1.0 }\n'
    )
    stage = dataclasses.replace(config.stages["sequences"], context=64)
    alone = dataclasses.replace(config, stages={"sequences": stage})
    run = write_run(tmp_path / "run", alone, resolve(str(tmp_path / "manifest.toml")))
    other, part = dataclasses.replace(bench, run=run), "image to seg, ADE20K"
    printed = other.call("--data", f"ade20k={bench.corpus / 'maps'}", "--part", part, "--most", 1, "--out", tmp_path,
                         protocol="lvm-lite")  # fmt: skip
    assert figures(found(tmp_path), part)["miou"]["model"]
    (note,) = found(tmp_path)["notes"]
    assert note.startswith("no loss, accuracy and perplexity of the run's own tasks: ")
    assert note in printed


def test_protocols_are_listed_with_their_parts_and_commands(bench):
    printed = bench.call("--protocols", protocol=None)
    for text in ("lvm-lite:", "delvm:", "--data ade20k=...", "visent pixels corpus/ade20k --split val", "forgetting:"):
        assert text in printed
