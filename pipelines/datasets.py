"""The datasets that a path means: itself, or those in the folders of a corpus."""

from pathlib import Path

from manifests import files
from manifests.dataset import FACTS_FILE
from pipelines.job import JOB_FILE
from visent.errors import UserError


def datasets_at(path: str) -> list[str]:
    """Returns the folder itself where it holds a dataset, finished or not, else its folders that do.

    Raises: `UserError` when there is none.
    """
    folder = path if files.is_url(path) else str(Path(path).absolute())
    if _is_dataset(folder):
        return [folder]
    inside = [files.join(folder, name) for name in files.list_names(folder)]
    found = [inner for inner in inside if _is_dataset(inner)]
    if not found:
        raise UserError(f"no dataset at {path}: expected a folder that `visent tokenize` wrote, or a corpus of such "
                        "folders")  # fmt: skip
    return found


def _is_dataset(folder: str) -> bool:
    return any(files.exists(files.join(folder, name)) for name in (JOB_FILE, FACTS_FILE))
