"""What a network at a URL is read with comes along, and a fetch that failed leaves nothing that looks whole."""

import fsspec
import pytest

from trainer.networks.fetching import fetched
from visent import storage
from visent.errors import UserError

CARD = """\
file = "c3d v2.onnx"
sha256 = "00"
name = "small C3D"
takes = "clips"
frames = 16
size = [112, 112]
features = "fc6"
mean_file = "mean.npy"
"""


def put(folder: str, **content: str) -> str:
    """Writes files, a double underscore for a dot, in a bucket; returns its URL."""
    memory = fsspec.filesystem("memory")
    for name, text in content.items():
        memory.pipe(f"/{folder}/{name.replace('__', '.').replace('_in_', '/')}", text.encode())
    return f"memory://{folder}"


@pytest.mark.parametrize("named", ["c3d.toml", "c3d.onnx"])
def test_an_onnx_network_comes_with_its_card_and_means_and_nothing_else(named: str) -> None:
    url = put(f"onnx-{named}", c3d__toml=CARD, mean__npy="means", other__onnx="another", c3d__onnx="old")
    fsspec.filesystem("memory").pipe(f"/onnx-{named}/c3d v2.onnx", b"network")
    fsspec.filesystem("memory").pipe(f"/onnx-{named}/c3d v2.onnx.data", b"numbers")
    path = fetched(f"{url}/{named}")
    assert path.name == named
    assert path.is_file()
    names = {named, "c3d v2.onnx", "c3d v2.onnx.data", "c3d.toml", "mean.npy"}
    assert {file.name for file in path.parent.iterdir()} == names
    assert (path.parent / "c3d v2.onnx").read_bytes() == b"network"


def test_a_folder_comes_whole() -> None:
    url = put("module", saved_model__pb="graph", variables_in_variables__index="names")
    path = fetched(f"{url}/")
    assert (path / "saved_model.pb").read_text() == "graph"
    assert (path / "variables" / "variables.index").read_text() == "names"


def test_a_fetch_that_failed_is_one_line_and_the_next_one_fetches_all(monkeypatch: pytest.MonkeyPatch) -> None:
    url = put("module2", saved_model__pb="graph", variables_in_variables__index="names")
    whole = storage.fetch

    def broken(remote: str, local: str) -> None:
        if remote.endswith(".index"):
            raise storage.StorageError("connection lost")
        whole(remote, local)

    with monkeypatch.context() as patched:
        patched.setattr(storage, "fetch", broken)
        with pytest.raises(UserError, match=r"cannot fetch the network .*connection lost") as caught:
            fetched(url)
    assert "\n" not in str(caught.value)
    assert (fetched(url) / "variables" / "variables.index").read_text() == "names"


def test_a_card_that_is_not_there_is_said() -> None:
    url = put("lonely", c3d__onnx="network")
    with pytest.raises(UserError, match=r"cannot fetch the network .*c3d\.toml"):
        fetched(f"{url}/c3d.onnx")
