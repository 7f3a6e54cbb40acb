"""Which datasets of a manifest lack views."""

from manifests.manifest import load
from visent.errors import UserError, unknown


def wanted_views(manifest_path: str, dataset: str | None = None) -> list[tuple[str, int]]:
    """Returns (folder, views of each example, the original included) of every dataset that is read in several views.

    Raises:
        UserError: the manifest is not one, names no such dataset, or asks for no views.
    """
    manifest = load(manifest_path)
    if dataset is not None and dataset not in manifest.datasets:
        raise unknown("dataset", dataset, manifest.datasets)
    names = [dataset] if dataset is not None else list(manifest.datasets)
    wanted = [(manifest.folder(name), manifest.datasets[name].views) for name in names]
    if dataset is not None and wanted[0][1] < 2:
        raise UserError(
            f"{manifest_path} reads dataset {dataset!r} in one view: set views in [datasets.{dataset}], "
            "or let `visent manifest balance` do it"
        )
    return [(folder, views) for folder, views in wanted if views > 1]
