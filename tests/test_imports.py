"""Who may import whom: the direction of the design, read from the source itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UNTRUSTED = {
    f"visent.untrusted.{name}" for name in ("arrays", "documents", "fields", "films", "names", "onnx_sessions")
}
LEAVES = {f"visent.{name}" for name in ("errors", "page", "progress", "staging", "storage", "untrusted")} | {
    "visent",
    *UNTRUSTED,
}
MAY_IMPORT = {
    "tokenizer": set(),
    "manifests": {"tokenizer.card"},
    "pipelines": {"tokenizer", "manifests"},
    "trainer": {"tokenizer", "manifests"},
    "visent": {"tokenizer", "manifests"},
}
FORBIDDEN = {
    "tokenizer": {"apache_beam", "pyarrow", "array_record"},
    "manifests": {"apache_beam", "jax", "flax", "cv2"},
    "pipelines": {"flax", "optax", "orbax"},
    "trainer": {"apache_beam", "cv2"},
    "visent": {"apache_beam"},
}
HEAVY = ("apache_beam", "jax", "flax", "torch", "tensorflow", "pyarrow", "cv2", "matplotlib", "datasets")


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} if node.module != "visent" else {f"visent.{a.name}" for a in node.names} | {"visent"}
    return found


def allowed(package: str, module: str) -> bool:
    """Whether `package` may import `module` of ours."""
    top = module.split(".")[0]
    if top == package or module in LEAVES or module == "visent.__version__":
        return True
    return any(module == name or module.startswith(name + ".") for name in MAY_IMPORT[package])


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_package_imports_only_what_stands_below_it(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} has no files"
    for path in files:
        for module in imported_modules(path):
            top = module.split(".")[0]
            assert top not in FORBIDDEN[package], f"{path.relative_to(ROOT)} imports {module}"
            if top in MAY_IMPORT:
                assert allowed(package, module), f"{path.relative_to(ROOT)} imports {module}"


COMMANDS = [
    [], ["tokenize"], ["tokenize", "folder"], ["status"], ["verify"], ["show"], ["manifest"], ["manifest", "show"],
    ["lineage"],
    ["diff"], ["export"], ["import"], ["plan"], ["plan", "folder"], ["plan", "simulate"],
    ["manifest", "set"], ["manifest", "check"], ["manifest", "diff"], ["manifest", "plan"], ["sources"], ["report"],
    ["pixels"],
    ["tokenizer"], ["tokenizer", "card"], ["tokenizer", "check"], ["tokenizer", "encode"], ["tokenizer", "decode"],
    ["tokenizer", "eval"], ["tokenizer", "convert"], ["tokenizer", "train"], ["train"], ["classify"], ["generate"],
    ["demo"], ["teacher"], ["evaluate"], ["model"], ["model", "export"], ["model", "import"], ["model", "show"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c) or "visent")
def test_help_loads_nothing_heavy_and_gives_an_example(command: list[str]) -> None:
    """Import cost is what makes help slow, so the loaded modules are asserted rather than the seconds."""
    script = (
        "import sys\nfrom visent.cli import visent\n"
        "try:\n    visent.main([*sys.argv[1:], '--help'], prog_name='visent')\nexcept SystemExit: pass\n"
        f"loaded = [m for m in {HEAVY} if m in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Usage: visent" in done.stdout
    assert "visent " + " ".join(command) in done.stdout.split("Usage:")[1].split("\n", 1)[1], "no example in the help"


def test_manifest_reading_works_without_jax_and_beam() -> None:
    script = (
        "import sys, manifests.lock, manifests.corpus, manifests.cli\n"
        "assert not {'jax', 'apache_beam'} & set(sys.modules), sorted(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("got", ["tokenise", "mainfest"])
def test_unknown_command_names_the_nearest_one(got: str) -> None:
    done = subprocess.run([sys.executable, "-m", "visent", got], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "did you mean" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "tiny"], "error: Missing option '--manifest' / '-m'; `visent train --help`"),
        (["evaluate", "run", "--batch", "0"], "error: Invalid value for '--batch': 0 is not in the range x>=1; "),
        (
            ["teacher", "big", "--seed", "4294967296"],
            "error: Invalid value for '--seed': 4294967296 is not in the range 0<=x<=4294967295; ",
        ),
        (["model", "exprot"], "error: No such command 'exprot'"),
    ],
)
def test_a_wrong_command_line_is_one_line_too(arguments: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "visent", *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert len(done.stderr.strip().splitlines()) == 1
