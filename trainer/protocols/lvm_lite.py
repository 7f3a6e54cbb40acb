"""LVM-Lite's evaluation (design section 8): frame prediction, conditional generation, understanding, inpainting."""

from trainer.protocols.part import FigureName, Part, Protocol

VIDEOS = {"UCF101": "ucf101", "SSv2": "ssv2", "Kinetics-600": "kinetics600"}
IMAGES: tuple[FigureName, ...] = ("fid", "is")


def lvm_lite() -> Protocol:
    """Top-k 100 at temperature 1; 5 frames in and 11 out; one pair as prompt, the same for all images."""
    clips = [_prediction(shown, data) for shown, data in VIDEOS.items()]
    controls = [_generation("ImageNet", "imagenet", role) for role in ("semantic", "depth", "edge")]
    scenes = {"ADE20K": "ade20k", "Cityscapes": "cityscapes"}
    generated = [_generation(shown, data, "semantic") for shown, data in scenes.items()]
    understood = [_understanding(shown, data) for shown, data in scenes.items()]
    name = "inpainting, ImageNet"
    lower = Part(name=name, paper=name, data="imagenet", kind="halves", made="image", figures=IMAGES)
    return Protocol(
        name="lvm-lite",
        about="LVM-Lite's tables: frame prediction, images from maps and maps from images, lower halves",
        parts=(*clips, *controls, *generated, *understood, lower),
    )


def _prediction(shown: str, data: str) -> Part:
    name = f"frame prediction, {shown}"
    return Part(name=name, paper=name, data=data, kind="clips", made="frames", figures=("fvd", "clip-is"),
                frames_given=5, frames_made=11)  # fmt: skip


def _generation(shown: str, data: str, role: str) -> Part:
    name = f"{'seg' if role == 'semantic' else role} to image, {shown}"
    return Part(name=name, paper=name, data=data, kind="images", given=role, made="image", figures=IMAGES)


def _understanding(shown: str, data: str) -> Part:
    name = f"image to seg, {shown}"
    return Part(name=name, paper=name, data=data, kind="labels", given="image", made="semantic",
                figures=("miou", "fid"))  # fmt: skip
