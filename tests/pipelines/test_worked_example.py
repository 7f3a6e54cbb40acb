"""The README's worked example of a dataset, run as it stands there."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from made_media import picture_bytes
from PIL import Image

from manifests.dataset import load_facts
from pipelines.cli import sources, tokenize, verify
from pipelines.job import job_from_facts
from pipelines.sources import catalog

README = Path(__file__).resolve().parents[2] / "pipelines" / "README.md"


@pytest.fixture
def boats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installs the README's module and its line of the catalog; returns a folder of boats."""
    module, line = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    name, target = re.findall(r'"([^"]+)"', line)
    (tmp_path / "boats.py").write_text(module)
    spec = importlib.util.spec_from_file_location(target.split(":")[0], tmp_path / "boats.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, target.split(":")[0], loaded)
    spec.loader.exec_module(loaded)
    monkeypatch.setitem(catalog.DATASETS, name, target)
    root = tmp_path / "harbours"
    for folder in ("photos", "hulls"):
        (root / folder).mkdir(parents=True)
    for number, harbour in enumerate(("kiel1", "kiel2", "kiel3", "bergen1")):
        (root / "photos" / f"{harbour}.jpg").write_bytes(picture_bytes(number, format="JPEG"))
        Image.fromarray(np.full((40, 48), number, np.uint8)).save(root / "hulls" / f"{harbour}.png")
    (root / "train.txt").write_text("kiel1\nkiel2\nbergen1\nkiel4\n")
    (root / "val.txt").write_text("kiel3\n")
    return root


def test_the_worked_example_is_tokenized_explained_and_built_again(tmp_path: Path, tiny: str, boats: Path) -> None:
    out = tmp_path / "corpus" / "boats"
    options = ["--harbour", "kiel", "--tokenizer", tiny, "--max-reject-fraction", "0.5"]
    done = CliRunner().invoke(tokenize, ["boats", "--root", str(boats), "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    facts = load_facts(str(out))
    assert {split: facts.examples(split) for split in facts.splits} == {"train": 2, "val": 1}
    assert "left out: 1 photos of other harbours" in done.output
    rejected = (out / "train-00000-of-00001.rejects.jsonl").read_text()
    assert '"kiel4"' in rejected
    assert "missing-image" in rejected
    assert CliRunner().invoke(verify, [str(out)]).exit_code == 0
    assert job_from_facts(str(out), "boats", facts.config).source.options == {"harbour": "kiel", "splits": []}
    shown = CliRunner().invoke(sources, ["boats"])
    assert "<root>/hulls/<name>.png" in shown.output


def test_a_label_outside_the_palette_is_rejected(tmp_path: Path, tiny: str, boats: Path) -> None:
    """bergen1's mask holds 3, and there are three colours."""
    out = tmp_path / "corpus" / "boats"
    options = ["--split", "train", "--tokenizer", tiny, "--max-reject-fraction", "0.9"]
    done = CliRunner().invoke(tokenize, ["boats", "--root", str(boats), "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    assert "unknown-label" in done.output
    assert load_facts(str(out)).examples("train") == 2
