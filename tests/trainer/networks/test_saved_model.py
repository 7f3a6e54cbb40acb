"""The variables of SavedModels, and what is said of damaged ones."""

from pathlib import Path

import numpy as np
import pytest

from trainer.networks.saved_model import has_variables, read_variables
from visent.errors import UserError

tensorflow = pytest.importorskip("tensorflow", reason="reads SavedModels: pip install 'visent[tensorflow]'")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A SavedModel of TensorFlow 1 with a matrix, a number of steps, and a graph that writes a file when it is run."""
    tf = tensorflow.compat.v1
    with tensorflow.Graph().as_default(), tf.Session() as session:
        matrix = tf.Variable(np.arange(6, dtype=np.float32).reshape(2, 3), name="net/first/w", use_resource=False)
        tf.Variable(7, name="net/global_step", dtype=tf.int64, use_resource=False)
        given = tf.placeholder(tf.float32, (None, 2))
        with tf.control_dependencies([tf.io.write_file(str(tmp_path / "written"), "it ran")]):
            result = given @ matrix
        session.run(tf.global_variables_initializer())
        tf.saved_model.simple_save(session, str(tmp_path / "model"), {"x": given}, {"y": result})
    return tmp_path / "model"


def test_variables_are_read_by_name_and_nothing_is_run(folder: Path) -> None:
    found = read_variables(folder)
    assert list(found) == ["net/first/w"]
    np.testing.assert_array_equal(found["net/first/w"], [[0, 1, 2], [3, 4, 5]])
    assert not (folder.parent / "written").exists()


def test_the_index_tells_the_first_name_without_tensorflow(folder: Path) -> None:
    assert has_variables(folder, "net/first/w")
    assert not has_variables(folder, "Conv3d_1a_7x7")
    assert not has_variables(folder.parent, "net/first/w")


@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001"])
def test_missing_and_cut_files_are_one_line(folder: Path, name: str) -> None:
    path = folder / "variables" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cannot read the variables of .*: fetch it again") as cut:
        read_variables(folder)
    path.unlink()
    with pytest.raises(UserError, match="cannot read the variables of") as missing:
        read_variables(folder)
    assert "\n" not in str(cut.value) + str(missing.value)
