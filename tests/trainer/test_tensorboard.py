"""Event files, read back by TensorBoard itself."""

import numpy as np
import pytest
from PIL import Image

from trainer.tensorboard import Board
from visent.errors import UserError

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder):
    found = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    found.purge_orphaned_data = False  # nothing may be there that TensorBoard would have to hide
    found.Reload()
    return found


def curve(folder, name="loss"):
    return [(event.step, event.value) for event in read(folder).Scalars(name)]


def write(folder, steps, after=0, config="{}"):
    board = Board(folder, config)
    board.forget_after(after)
    for step in steps:
        board.scalars(step, {"loss": step / 2, "rate": 0.1})
    return board


def test_tensorboard_reads_scalars_pictures_and_the_configuration(tmp_path):
    board = write(tmp_path, [1, 2], config='{"seed": 3}')
    pixels = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
    board.picture(2, "samples/edge", Image.fromarray(pixels))
    board.close()
    assert curve(tmp_path) == [(1, 0.5), (2, 1.0)]
    found = read(tmp_path)
    (picture,) = found.Images("samples/edge")
    assert (picture.step, picture.width, picture.height) == (2, 4, 6)
    (tmp_path / "x.png").write_bytes(picture.encoded_image_string)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x.png")), pixels)
    (config,) = found.Tensors("config/text_summary")
    assert b'"seed": 3' in config.tensor_proto.string_val[0]


def test_a_resumed_run_has_every_step_once_and_the_newest_configuration(tmp_path):
    write(tmp_path, range(1, 8), config="first").close()
    write(tmp_path, range(5, 10), after=4, config="second").close()
    write(tmp_path, range(9, 11), after=8, config="third").close()
    assert sorted(step for step, _ in curve(tmp_path)) == list(range(1, 11))
    (config,) = read(tmp_path).Tensors("config/text_summary")
    assert b"third" in config.tensor_proto.string_val[0]


def test_what_a_kill_cut_short_is_forgotten_and_the_rest_is_kept(tmp_path):
    write(tmp_path, range(1, 5)).close()
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    write(tmp_path, [4, 5], after=3).close()
    assert sorted(curve(tmp_path)) == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0), (5, 2.5)]


def test_a_run_that_writes_nothing_leaves_the_files_as_they_are(tmp_path):
    write(tmp_path, range(1, 5)).close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    Board(tmp_path, "{}").close()
    other_host = Board(tmp_path, "{}", writes=False)
    other_host.scalars(5, {"loss": 1.0})
    other_host.close()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_flushed_figures_can_be_read_while_the_run_goes_on(tmp_path):
    board = write(tmp_path, [1])
    board.flush()
    assert curve(tmp_path) == [(1, 0.5)]
    board.close()


def test_event_files_at_a_url_are_continued_too(tmp_path):
    import fsspec

    folder = f"memory://{tmp_path.name}/tensorboard"
    write(folder, range(1, 5)).close()
    write(folder, range(3, 6), after=2).close()
    filesystem = fsspec.filesystem("memory")
    filesystem.get(f"/{tmp_path.name}/tensorboard", str(tmp_path), recursive=True)
    assert sorted(step for step, _ in curve(tmp_path / "tensorboard")) == [1, 2, 3, 4, 5]


def test_a_damaged_file_is_named(tmp_path):
    write(tmp_path, range(1, 5)).close()
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[12:20] = b"\xff" * 8
    file.write_bytes(data)
    with pytest.raises(UserError, match="damaged at byte 0: remove it"):
        write(tmp_path, [5], after=4)
