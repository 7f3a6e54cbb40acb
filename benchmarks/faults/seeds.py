"""The whole files that `fuzz.py` damages: written here in every format, and small parts of real datasets."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.faults import made_media, made_weights
from benchmarks.faults.mutate import CANARY
from benchmarks.faults.readers import TARGETS, Target

MOST_BYTES = {".tar": 3_000_000, "": 500_000}  # of a real file
MOST_FILES = 10  # of pictures of a real dataset
# Real datasets in a folder of samples: name -> (folder there, dataset, options, what must be kept whatever its size).
SAMPLES = {
    "coco": ("coco", "coco", {"annotations": ["instances", "boxes"]}),
    "coco-panoptic": ("coco", "coco", {"annotations": ["panoptic"]}),
    "coco-pose": ("coco", "coco", {"annotations": ["pose"]}),
    "coco-stuff": ("coco", "coco", {"annotations": ["semantic"]}),
    "mpii": ("mpii", "mpii", {}),
    "sa1b": ("sa1b/derived_from_coco", "sa1b", {}),
    "ade20k": ("ade20k/ADEChallengeData2016", "ade20k", {}),
    "voc": ("voc/VOCdevkit", "voc", {}),
    "bsds500": ("bsds500/BSDS500", "bsds500", {}),
    "imagenet-depth": ("imagenet_depth", "imagenet_depth", {}),
    "instruct-pix2pix": ("instruct_pix2pix/clip-filtered-dataset", "instruct_pix2pix", {}),
    "nyu": ("nyu_depth_v2", "nyu_depth", {}),
    "ucf101": ("ucf101", "ucf101", {"frames": 4}),
    "hmdb51": ("hmdb51", "hmdb51", {"frames": 4}),
    "kinetics": ("kinetics/k400_class_folders", "kinetics", {"frames": 4}),
    "ssv2": ("ssv2", "ssv2", {"frames": 4}),
    "jester": ("jester", "jester", {"frames": 4}),
    "hdvila": ("hdvila", "hdvila", {"frames": 4}),
    "davis": ("davis/DAVIS2017", "davis", {"frames": 4}),
    "youtube-vos": ("youtube_vos", "youtube_vos", {"frames": 4}),
    "vipseg": ("vipseg/VIPSeg", "vipseg", {"frames": 4}),
    "co3d": ("co3d", "co3d", {"annotations": ["mask"]}),
    "multiview": ("multiview", "multiview", {}),
    "rawframes": ("rawframes", "rawframes", {"frames": 4}),
    "datacomp": ("datacomp/shards", "datacomp", {}),
    "laion": ("laion", "laion", {}),
    "video-webdataset": ("video_webdataset", "video_webdataset", {"frames": 4}),
    "videos": ("videos", "videos", {"frames": 4}),
    "videos-misc": ("video_misc", "videos", {"frames": 4}),
}
PICTURES = (".jpg", ".jpeg", ".png", ".JPEG", ".JPG", ".PNG")


def write_targets(work: Path, samples: Path | None) -> None:
    """Writes all targets below a folder; those of real datasets where `samples` is given."""
    work.mkdir(parents=True, exist_ok=True)
    (work / CANARY).write_bytes(made_media.picture(99))
    targets = [*made_media.targets(work), *made_weights.targets(work)]
    if samples is not None:
        targets += [_sample(work, samples, name) for name in SAMPLES if (samples / SAMPLES[name][0]).is_dir()]
    below = [replace(target, folder=str(Path(target.folder).relative_to(work))) for target in targets]
    (work / TARGETS).write_text(json.dumps([asdict(target) for target in below if target.files]))


def _sample(work: Path, samples: Path, name: str) -> Target:
    """Copies a part of a real dataset: all its lists, its smaller media, and a few pictures of each folder."""
    place, dataset, options = SAMPLES[name]
    folder, kept = work / "samples" / name, list[str]()
    pictures = 0
    for path in sorted((samples / place).rglob("*")):
        most = MOST_BYTES.get(path.suffix, MOST_BYTES[""])
        if not path.is_file() or path.stat().st_size > most or path.name.startswith("00000001"):  # one tar will do
            continue
        if path.suffix in PICTURES:
            pictures += 1
            if sum(other.suffix in PICTURES for other in path.parent.iterdir() if other <= path) > MOST_FILES:
                continue
        below = str(path.relative_to(samples / place))
        (folder / below).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / below)
        kept.append(below)
    lists = [one for one in kept if not one.endswith(PICTURES)]
    return Target(
        name=name, reader="source", folder=str(folder), given={"dataset": dataset, "options": options},
        files=lists * max(1, len(kept) // max(len(lists), 1)) + [one for one in kept if one.endswith(PICTURES)][:4],
    )  # fmt: skip
