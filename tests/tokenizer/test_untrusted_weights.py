"""Weights that somebody made to do harm: refused in one line and within bounded memory; nothing in them is run."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from tokenizer.checkpoints.pickles import Storage, TensorView, load_pickle
from tokenizer.checkpoints.reading import read
from tokenizer.codes import read_codes
from tokenizer.training.vgg_weights import read_h5
from visent.errors import UserError

MIB = 1 << 20


@pytest.fixture
def bounded() -> Iterator[None]:
    """Fails when Python and numpy hold more than 200 MiB at a time."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * MIB


@pytest.mark.usefixtures("bounded")
def test_a_tensor_may_not_be_larger_than_its_storage() -> None:
    """Strides of zero would show four bytes as a terabyte."""
    view = TensorView(Storage("0", np.dtype("<f4")), np.dtype("<f4"), 0, (10**6, 10**6), (0, 0))
    with pytest.raises(ValueError, match="stored numbers"):
        view.read(lambda _: bytes(4))


@pytest.mark.usefixtures("bounded")
def test_references_to_references_are_not_spelled_out(tmp_path: Path) -> None:
    """Forty dicts, each of which holds the next twice: 2 ** 40 values in a kilobyte."""
    tree: object = np.zeros(1, np.float32)
    for _ in range(40):
        tree = {"a": tree, "b": tree}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(tree))
    with pytest.raises(UserError, match="more than 10,000 values"):
        read(tmp_path / "a.pkl")


def test_what_holds_itself_ends(tmp_path: Path) -> None:
    tree: dict[str, object] = {"a": np.zeros(1, np.float32)}
    tree["self"] = tree
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(tree))
    with pytest.raises(UserError):
        read(tmp_path / "a.pkl")


@pytest.mark.usefixtures("bounded")
def test_a_torch_file_of_packed_zeros_is_refused_unread(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "a.bin", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a/data.pkl", "w") as f,
    ):
        for _ in range(100):
            f.write(bytes(MIB))
    with pytest.raises(UserError, match="compressed"):
        read(tmp_path / "a.bin")


@pytest.mark.usefixtures("bounded")
def test_an_old_torch_stream_that_states_an_exabyte_is_refused(tmp_path: Path) -> None:
    parts = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {}, {}, ["0"])]
    (tmp_path / "a.pth").write_bytes(b"".join(parts) + struct.pack("<q", 1 << 60) + bytes(100))
    with pytest.raises(UserError, match="is not there"):
        read(tmp_path / "a.pth")


@pytest.mark.usefixtures("bounded")
def test_a_safetensors_header_of_any_length_is_one_line(tmp_path: Path) -> None:
    for name, header in {"long": b"{", "deep": b"[" * 100_000, "lying": b'{"a":{"dtype":"F32","shape":[99999999],"data_offsets":[0,4]}}'}.items():  # fmt: skip  # noqa: E501
        stated = 1 << 40 if name == "long" else len(header)
        (tmp_path / f"{name}.safetensors").write_bytes(struct.pack("<Q", stated) + header + bytes(64))
        with pytest.raises(UserError, match="cannot read"):
            read(tmp_path / f"{name}.safetensors")


@pytest.mark.usefixtures("bounded")
def test_a_config_nested_without_end_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 100_000)
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    with pytest.raises(UserError, match="nested too deeply"):
        read(tmp_path)


@pytest.mark.usefixtures("bounded")
def test_an_h5_file_may_not_state_terabytes_nor_name_other_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("vars", shape=(10**6, 10**6), dtype="f4", chunks=(64, 64))
    with pytest.raises(UserError, match="no weights"):
        read_h5(tmp_path / "huge.h5")
    (tmp_path / "secret").write_bytes(bytes(range(16)))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("vars", shape=(16,), dtype="u1", external=[(str(tmp_path / "secret"), 0, 16)])
    with pytest.raises(UserError, match="other files"):
        read_h5(tmp_path / "other.h5")


@pytest.mark.usefixtures("bounded")
def test_a_file_of_codes_may_not_state_more_than_it_holds(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<u2", "fortran_order": False, "shape": (10**9, 0)})
    (tmp_path / "a.npy").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="shape"):
        read_codes(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UserError, match="never loaded"):
        read_codes(tmp_path / "b.npy")


def test_an_extension_of_pickle_is_answered_here_or_refused() -> None:
    """Every way by which a pickle names something: GLOBAL, STACK_GLOBAL, INST, and copyreg's numbers."""
    for harm in (b"cposix\nsystem\n.", b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", b"(iposix\nsystem\n."):
        with pytest.raises(UserError, match=r"posix\.system"):
            load_pickle(io.BytesIO(harm), "a.pkl")
    with pytest.raises(ValueError, match="extension"):
        load_pickle(io.BytesIO(b"\x82\x01."), "a.pkl")
