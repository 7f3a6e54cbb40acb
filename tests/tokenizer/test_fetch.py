"""Where a tokenizer is found: names, paths, URLs, Hugging Face ids; and how each says that it is not there."""

import shutil
from pathlib import Path
from typing import Any

import fsspec
import huggingface_hub.constants
import pytest
from made_checkpoints import PLAIN, made, same

from tokenizer.card import PRETRAINED
from tokenizer.checkpoints import read, write
from tokenizer.fetch import cache_folder, locate
from tokenizer.load import load_card, open_tokenizer
from tokenizer.testing import tiny_tokenizer_dir
from visent import storage
from visent.errors import UserError

REPO = "someone/vqgan"


@pytest.fixture
def remote() -> Any:
    """An empty remote file system."""
    system = fsspec.filesystem("memory")
    system.rm("/", recursive=True) if system.exists("/") else None
    return system


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of Hugging Face's layout with one snapshot of a repository; returns the snapshot."""
    cache = tmp_path / "hub"
    repo = cache / f"models--{REPO.replace('/', '--')}"
    snapshot = repo / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return snapshot


def test_a_name_is_the_shipped_tokenizer_and_a_path_is_itself(tmp_path: Path) -> None:
    assert locate("default") == PRETRAINED / "default"
    assert locate(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["", "/", "no where", "../nothing", "./a/b", "a/b/", "gsX//b"])
def test_what_is_nothing_says_what_could_be_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no tokenizer|no file or folder|expected"):
        load_card(name)


def test_a_folder_at_a_url_is_fetched_once_and_again_when_it_changed(tmp_path: Path, remote: Any) -> None:
    own = tiny_tokenizer_dir(tmp_path)
    remote.put(str(own), "/bucket/tiny", recursive=True)
    remote.pipe("/bucket/tiny/training/state.safetensors", b"not for us")
    assert same(open_tokenizer("memory://bucket/tiny")[0], read(own))
    first = locate("memory://bucket/tiny")
    assert locate("memory://bucket/tiny") == first
    assert sorted(p.name for p in first.iterdir()) == ["card.json", "config.json", "model.safetensors"]
    other = tiny_tokenizer_dir(tmp_path, seed=1)
    remote.put(str(other) + "/", "/bucket/tiny", recursive=True)
    assert load_card("memory://bucket/tiny").fingerprint == load_card(other).fingerprint
    assert len([path for path in cache_folder().iterdir() if path.is_dir()]) == 2


def test_a_file_at_a_url_comes_with_its_config(tmp_path: Path, remote: Any) -> None:
    checkpoint = made(PLAIN)  # 64 pixels a side: only the config says so
    write(checkpoint, "muse", tmp_path / "muse")
    remote.put(str(tmp_path / "muse"), "/bucket/muse", recursive=True)
    found, card = open_tokenizer("memory://bucket/muse/pytorch_model.bin")
    assert same(found, checkpoint)
    assert card.name == "pytorch_model.bin"


def test_a_pipeline_at_a_url_gives_its_vqvae_alone(tmp_path: Path, remote: Any) -> None:
    write(made(PLAIN), "diffusers", tmp_path / "vqvae")
    remote.put(str(tmp_path / "vqvae"), "/bucket/pipe/vqvae", recursive=True)
    remote.pipe("/bucket/pipe/transformer/diffusion_pytorch_model.safetensors", b"large")
    assert same(open_tokenizer("memory://bucket/pipe")[0], made(PLAIN))
    assert load_card("memory://bucket/pipe/vqvae").name == "pipe/vqvae"
    assert not (locate("memory://bucket/pipe") / "transformer").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://bucket/none", "nothing at memory://bucket/none: expected a checkpoint"),
        ("nosuch://bucket/none", "cannot fetch the tokenizer nosuch://bucket/none: "),
    ],
)
def test_a_url_with_nothing_behind_it_is_one_clear_line(remote: Any, url: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_card(url)


def test_a_bucket_that_cannot_be_asked_is_not_taken_for_an_empty_one(
    remote: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.put(str(tiny_tokenizer_dir(tmp_path)), "/bucket/tiny", recursive=True)
    monkeypatch.setattr(storage, "PAUSES", (0.01,))
    answers = [OSError("503 service unavailable")] * 3
    info = type(remote).info

    def busy(self: Any, path: str, **options: Any) -> Any:
        if answers:
            raise answers.pop()
        return info(self, path, **options)

    monkeypatch.setattr(type(remote), "info", busy)
    with pytest.raises(UserError, match=r"cannot fetch the tokenizer memory://bucket/tiny: 503 .*, 2 times in a row"):
        locate("memory://bucket/tiny")
    assert (locate("memory://bucket/tiny") / "card.json").is_file()


def test_a_cached_repository_is_loaded_offline(hub: Path) -> None:
    write(made(PLAIN), "muse", hub)
    found, card = open_tokenizer(REPO)
    assert same(found, made(PLAIN))
    assert card.name == load_card(REPO).name == REPO
    assert card.about == {"read from": "pytorch_model.bin (muse layout)"}


def test_a_revision_of_a_repository_can_be_named(hub: Path) -> None:
    write(made(PLAIN), "muse", hub)
    older = hub.with_name("b" * 40)
    write(made(PLAIN, seed=1), "muse", older)
    (hub.parents[1] / "refs" / "v1").write_text("b" * 40)
    assert same(open_tokenizer(f"{REPO}@v1")[0], made(PLAIN, seed=1))
    assert same(open_tokenizer(f"{REPO}@{'b' * 40}")[0], made(PLAIN, seed=1))
    assert same(open_tokenizer(REPO)[0], made(PLAIN))
    with pytest.raises(UserError, match="hf download someone/vqgan --revision v2"):
        load_card(f"{REPO}@v2")


@pytest.mark.parametrize("inside", ["vqvae", "vqvae/diffusion_pytorch_model.safetensors"])
def test_a_part_of_a_repository_can_be_named(hub: Path, inside: str) -> None:
    write(made(PLAIN), "diffusers", hub / "vqvae")
    assert same(open_tokenizer(f"{REPO}/{inside}")[0], made(PLAIN))
    with pytest.raises(UserError, match="repository someone/vqgan holds no vae"):
        locate(f"{REPO}/vae")


def test_a_local_path_goes_before_an_id(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(made(PLAIN), "muse", hub)
    monkeypatch.chdir(tmp_path)
    assert locate(REPO) == hub
    shutil.copytree(hub, Path(REPO))
    assert locate(REPO) == Path(REPO)


def test_a_repository_that_is_not_cached_says_so_and_what_to_do(hub: Path) -> None:
    with pytest.raises(UserError) as error:
        load_card("someone/else")
    text = str(error.value)
    assert "no file or folder 'someone/else', and it cannot be fetched" in text
    assert "HF_HUB_OFFLINE is 1" in text
    assert "hf download someone/else" in text
    assert "\n" not in text


def test_a_snapshot_without_weights_says_what_it_found(hub: Path) -> None:
    (hub / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"no tokenizer in .*: found config.json; expected"):
        read(locate(REPO))
