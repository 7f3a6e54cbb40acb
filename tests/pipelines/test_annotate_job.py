"""Networks in a job: batches across examples, order, geometry, and the weights in its configuration."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from made_media import picture_bytes, write_pictures, write_video

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from made_onnx import convolution, per_pixel, write_card, write_model

from manifests.dataset import config_digest
from manifests.shards import ShardInfo, read_rows
from pipelines.annotate.networks import annotated, weights
from pipelines.augment import parse
from pipelines.batches import IN_FLIGHT
from pipelines.encoder import shared_encoder
from pipelines.examples import Look, Squares, squares
from pipelines.job import Job, Work, configuration, difference, job_from_facts, units_of
from pipelines.resuming.settle import record, settle
from pipelines.sources.base import Example, Reject
from pipelines.sources.dataset import DatasetSource
from pipelines.sources.folder import FolderSource
from pipelines.sources.videos import Videos
from pipelines.units import tokenize_unit
from visent.cli import visent
from visent.errors import UserError

SOBEL = np.broadcast_to(np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]), (1, 3, 3, 3))


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network that finds edges, in batches of 3."""
    folder = tmp_path_factory.mktemp("edges")
    write_model(folder, convolution(SOBEL), batch=3)
    return write_card(folder, decode="edges")


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network that draws the picture itself, so far as its 24 x 24 pixels show it."""
    folder = tmp_path_factory.mktemp("same")
    write_model(folder, per_pixel(np.eye(3).tolist()))
    return write_card(folder)


def job(tmp_path: Path, tiny: str, annotate: tuple[str, ...], out: str = "out", **options: Any) -> Job:
    source = options.pop("source", None) or FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=100)
    return Job(out=str(tmp_path / out), name="d", tokenizer=tiny, source=source, annotate=annotate, **options)


def make(made: Job, views: tuple[int, int] = (0, 0)) -> list[dict[str, np.ndarray]]:
    """Makes the one shard; returns the codes of its rows, by role."""
    Path(made.out).mkdir(exist_ok=True)
    (unit,) = units_of(made, made.source.listing()[0])
    info: ShardInfo = tokenize_unit(made, Work(unit=unit, views=views), "digest", shared_encoder(made.tokenizer))
    return [dict(row.codes) for row in read_rows(f"{made.out}/{info.file}", made.schema)]


@pytest.mark.parametrize("format", ["parquet", "arrayrecord"])
def test_roles_stand_in_the_order_they_were_asked_for(tmp_path: Path, tiny: str, edges: str, format: Any) -> None:
    write_pictures(tmp_path / "in", 4)
    rows = make(job(tmp_path, tiny, (edges, "gray"), format=format))
    assert [list(row) for row in rows] == [["image", "drawn", "gray"]] * 4


def test_a_row_is_the_same_alone_and_among_others(tmp_path: Path, tiny: str, edges: str) -> None:
    """Batches hold three pictures, the shard seven; every picture has another size."""
    write_pictures(tmp_path / "in", 7)
    for number in range(7):
        alone = tmp_path / f"{number}"
        alone.mkdir()
        (tmp_path / "in" / f"{number:03d}.png").write_bytes(_picture(number))
        (alone / f"{number:03d}.png").write_bytes(_picture(number))
    together = make(job(tmp_path, tiny, (edges,)))
    for number, row in enumerate(together):
        source = FolderSource(paths=(str(tmp_path / f"{number}"),), items_per_unit=1)
        (other,) = make(job(tmp_path, tiny, (edges,), out=f"out{number}", source=source))
        assert all(np.array_equal(row[role], other[role]) for role in row)
    assert len({row["drawn"].tobytes() for row in together}) > 3


def _picture(number: int) -> bytes:
    return picture_bytes(number, (40 + 7 * number, 33 + 3 * number))


def example(number: int, frames: int = 1) -> Example:
    random = np.random.default_rng(number)
    shape = (40 + 3 * number, 60, 3)
    return Example(
        key=str(number), source="s", media={"image": [random.integers(0, 256, shape, np.uint8) for _ in range(frames)]}
    )


def look(*annotate: str, **options: Any) -> Look:
    return Look(**{"dataset": "d", "roles": ("image",), "annotate": annotate, "preset": "crop", "size": 32} | options)


@given(st.lists(st.integers(0, 4), max_size=9))
def test_clips_of_any_length_and_rejects_come_out_in_order(same: str, edges: str, lengths: list[int]) -> None:
    """A length of 0 stands for a reject, which may overtake."""
    two = (same, edges.replace("drawn=", "edges="))
    stream: list[Squares | Reject] = []
    for number, length in enumerate(lengths):
        made = squares(example(number, length), look(*two), [0]) if length else None
        stream += made if isinstance(made, list) else [Reject(key=str(number), source="s", stage="read", reason="r")]
    results = list(annotated(stream, weights(two), 32))
    assert len(results) == len(stream)
    kept = [one for one in results if isinstance(one, Squares)]
    assert [one.key for one in kept] == [str(number) for number, length in enumerate(lengths) if length]
    for one in kept:
        assert {role: len(pictures) for role, pictures in one.pictures.items()} == dict.fromkeys(
            ("image", "drawn", "edges"), lengths[int(one.key)]
        )
        assert not one.whole  # let go of, for the encoder only needs squares


def test_reading_waits_for_the_network(edges: str) -> None:
    """Of a long stream no more is held than the batches at work."""
    read: list[int] = []

    def stream() -> Iterator[Squares | Reject]:
        for number in range(1000):
            read.append(number)
            yield from squares(example(number % 5), look(edges), [0])

    next(annotated(stream(), weights((edges,)), 32))
    assert len(read) <= 3 * (IN_FLIGHT + 1)


@pytest.mark.parametrize("augment", ["crop,hflip,vflip,turn", "crop,rotate", "six-crops=20"])
def test_what_networks_draw_shows_the_same_place_in_every_view(same: str, augment: str) -> None:
    """The network draws what it sees, so its squares are the picture's, a little smoother."""
    y, x = np.mgrid[:60, :80] / 80 * 200
    picture = np.stack([x, y, 128 + 100 * np.sin(x / 30)], axis=2).astype(np.uint8)
    made = squares(
        Example(key="k", source="s", media={"image": picture}), look(same, augment=parse(augment)), range(0, 6)
    )
    assert not isinstance(made, Reject)
    for one in annotated(made, weights((same,)), 32):
        assert isinstance(one, Squares)
        difference = np.abs(one.pictures["image"].astype(int) - one.pictures["drawn"].astype(int))
        assert np.median(difference) <= 4


def test_each_frame_of_a_clip_is_drawn(tmp_path: Path, tiny: str, edges: str) -> None:
    write_video(tmp_path / "in" / "v.mp4")
    videos = Videos(root=str(tmp_path / "in"), fps=5.0, frames_per_clip=4)
    source = DatasetSource(name="videos", items_per_unit=4, dataset=videos)
    rows = make(job(tmp_path, tiny, (edges,), source=source))
    assert [len(row["frames"]) for row in rows] == [len(row["drawn"]) for row in rows]
    assert max(len(row["drawn"]) for row in rows) == 4


def settled(made: Job) -> dict[str, Any]:
    found = settle(made, made.source.listing()[0])
    record(made, found)
    return found.config


def test_other_weights_are_refused_and_a_moved_model_goes_on(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    model = tmp_path / "model"
    write_model(model, per_pixel([[1, 0, 0]]))
    card = write_card(model, decode="edges")
    config = settled(job(tmp_path, tiny, (card,)))
    assert config["annotate"] == ["drawn"]
    assert config["annotators"] == {"drawn": weights((card,))[0].sha256}
    make(job(tmp_path, tiny, (card,)))
    model.rename(tmp_path / "moved")
    moved = f"drawn={tmp_path}/moved/model.toml"
    assert config_digest(settled(job(tmp_path, tiny, (moved,)))) == config_digest(config)
    write_model(tmp_path / "moved", per_pixel([[0, 1, 0]]))
    with pytest.raises(
        UserError, match=r'another configuration:\n  weights of annotator drawn: was "[0-9a-f]{64}", now'
    ):
        settled(job(tmp_path, tiny, (moved,)))


def test_a_recorded_configuration_finds_the_model_again(tmp_path: Path, tiny: str, edges: str) -> None:
    write_pictures(tmp_path / "in", 3)
    made = job(tmp_path, tiny, ("gray", edges))
    config = json.loads(json.dumps(settled(made)))
    again = job_from_facts(made.out, "d", config)
    assert again == made
    assert not difference(config, configuration(again))
    assert len(make(again, (1, 5))) == 15


def test_a_model_that_is_missing_is_refused_before_any_work(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 1)
    with pytest.raises(UserError, match="cannot read"):
        job(tmp_path, tiny, (f"depth={tmp_path}/none.toml",))
    assert not (tmp_path / "out").exists()


def test_the_command_draws_by_a_model_and_tells_what_is_wrong_with_it(tmp_path: Path, tiny: str, edges: str) -> None:
    write_pictures(tmp_path / "in", 5)
    arguments = ["tokenize", "folder", str(tmp_path / "in"), "--tokenizer", tiny, "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(visent, [*arguments, "--annotate", f"edge,{edges}"])
    assert done.exit_code == 0, done.output
    assert "15" in done.output  # images encoded
    facts = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert list(facts["config"]["annotators"]) == ["drawn"]
    card = Path(edges.partition("=")[2])
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.toml").write_bytes(card.read_bytes())
    (broken / "model.onnx").write_bytes(b"")
    done = CliRunner().invoke(
        visent, [*arguments[:-1], str(tmp_path / "other"), "--annotate", f"a={broken}/model.toml"]
    )
    assert isinstance(done.exception, UserError)
    assert "no ONNX model" in str(done.exception)
    assert "\n" not in str(done.exception)
