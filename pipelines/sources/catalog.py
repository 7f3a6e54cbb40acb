"""The sources by name. A dataset is one module, and one line here."""

import importlib
from collections.abc import Mapping
from typing import Any

from pipelines.sources.base import Source
from pipelines.sources.dataset import Dataset, DatasetSource
from visent.errors import UserError, unknown

GENERAL = ("folder", "pairs")  # their commands take several folders, see pipelines/commands/

# name -> class, loaded when it is used
DATASETS = {
    # any files of a kind
    "videos": "pipelines.sources.videos:Videos",
    "webdataset": "pipelines.sources.webdataset:Webdataset",
    "video_webdataset": "pipelines.sources.video_webdataset:VideoWebdataset",
    "huggingface": "pipelines.sources.huggingface:HuggingFace",
    "parquet": "pipelines.sources.parquet:Parquet",
    "tfrecord": "pipelines.sources.tfrecord:TFRecord",
    "tfds": "pipelines.sources.tfds:TFDS",
    # images
    "datacomp": "pipelines.sources.datacomp:DataComp",
    "laion": "pipelines.sources.laion:LAION",
    "imagenet": "pipelines.sources.imagenet:ImageNet",
    # images and annotations
    "coco": "pipelines.sources.coco:COCO",
    "mpii": "pipelines.sources.mpii:MPII",
    "sa1b": "pipelines.sources.sa1b:SA1B",
    "ade20k": "pipelines.sources.ade20k:ADE20K",
    "ade20k_full": "pipelines.sources.ade20k_full:ADE20KFull",
    "cityscapes": "pipelines.sources.cityscapes:Cityscapes",
    "voc": "pipelines.sources.voc:VOC",
    "pascal5i": "pipelines.sources.pascal5i:Pascal5i",
    "lol": "pipelines.sources.lol:LOL",
    "rain13k": "pipelines.sources.rain13k:Rain13K",
    "rain1400": "pipelines.sources.rain1400:Rain1400",
    "sidd": "pipelines.sources.sidd:SIDD",
    "polyu": "pipelines.sources.polyu:PolyU",
    "instruct_pix2pix": "pipelines.sources.instruct_pix2pix:InstructPix2Pix",
    "nyu_depth": "pipelines.sources.nyu_depth:NYUDepth",
    "imagenet_depth": "pipelines.sources.imagenet_depth:ImageNetDepth",
    "bsds500": "pipelines.sources.bsds500:BSDS500",
    "uded": "pipelines.sources.uded:UDED",
    # videos
    "ucf101": "pipelines.sources.ucf101:UCF101",
    "hmdb51": "pipelines.sources.hmdb51:HMDB51",
    "ssv2": "pipelines.sources.ssv2:SSv2",
    "kinetics": "pipelines.sources.kinetics:Kinetics",
    "moments": "pipelines.sources.moments:Moments",
    "multi_moments": "pipelines.sources.multi_moments:MultiMoments",
    "charades": "pipelines.sources.charades:Charades",
    "charades_ego": "pipelines.sources.charades_ego:CharadesEgo",
    "multisports": "pipelines.sources.multisports:MultiSports",
    "ava": "pipelines.sources.ava:AVA",
    "ego4d": "pipelines.sources.ego4d:Ego4D",
    "hdvila": "pipelines.sources.hdvila:HDVILA",
    # folders of frames
    "rawframes": "pipelines.sources.rawframes:RawFrames",
    "video_pairs": "pipelines.sources.video_pairs:VideoPairs",
    "charades_masks": "pipelines.sources.charades_masks:CharadesMasks",
    "jester": "pipelines.sources.jester:Jester",
    "multiview": "pipelines.sources.multiview:Multiview",
    "objaverse": "pipelines.sources.objaverse:Objaverse",
    "davis": "pipelines.sources.davis:DAVIS",
    "youtube_vos": "pipelines.sources.youtube_vos:YouTubeVOS",
    "vipseg": "pipelines.sources.vipseg:VIPSeg",
    "co3d": "pipelines.sources.co3d:CO3D",
}  # fmt: skip


def dataset_class(name: str) -> type[Dataset]:
    """Imports a dataset's class.

    Raises: `UserError` for an unknown name, or when a package that it needs is not installed.
    """
    if name not in DATASETS:
        raise unknown("source", name, (*GENERAL, *DATASETS))
    module, attribute = DATASETS[name].split(":")
    found: type[Dataset] = getattr(importlib.import_module(module), attribute)
    return found


def rebuild(config: Mapping[str, Any]) -> Source:
    """Builds the source that a finished dataset's recorded configuration names.

    Raises: `UserError` for an unknown source, or when its folder is gone.
    """
    from pipelines.sources.folder import FolderSource
    from pipelines.sources.pairs import PairsSource

    name, roots, options, items = config["source"], config["roots"], config["options"], config["items_per_shard"]
    if name == "folder":
        return FolderSource(paths=tuple(roots.values()), items_per_unit=items, **options)
    if name == "pairs":
        depth, labels = tuple(options["depth"]), tuple(options["labels"])
        return PairsSource(paths=roots, items_per_unit=items, depth=depth, labels=labels, depth_is=options["depth_is"])
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    splits = fields.pop("splits")
    try:
        dataset = dataset_class(name)(root=roots["root"], **fields)  # type: ignore[call-arg]
    except TypeError as error:
        raise UserError(f"source {name!r} does not take the recorded options: {error}; tokenize it anew") from error
    return DatasetSource(name=name, dataset=dataset, items_per_unit=items, splits=splits)
