"""The published colours of classes. Row or key = the class's id in the dataset's own files; each row is (R, G, B).

Some publishers gave two classes one colour. These stay as published, so that a picture looks as theirs do; reading
gives the lower id then: ADE20K 7 road for 49 skyscraper (VIPSeg's files count them alike), and Cityscapes 0 for the
four other black classes and 17 pole for 18 polegroup.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from tokenizer.labels import voc_palette

Colour = tuple[int, int, int]

# CSAILVision/sceneparsing color150, ids 1..150
_ADE20K = """
    787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33 ff0652
    8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff 08ffd6 07ffe0
    ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff eb0cff a09614 00a3ff
    8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff 0bc8c8 ff5200 00fff5 003dff
    00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad 0a00ff adff00 00ff99 ff5c00 ff00ff
    ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2 00ff52 000aff 0070ff 3300ff 00c2ff 007aff
    00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa 8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070
    5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3 ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500
    0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff 00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff
    b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff
"""

# cityscapesScripts helpers/labels.py, labelIds 0..33
_CITYSCAPES = """
    000000 000000 000000 000000 000000 6f4a00 510051 804080 f423e8 faaaa0 e6968c 464646 66669c be9999 b4a5b4 966464
    96785a 999999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000 00008e 000046 003c64 00005a 00006e 005064
    0000e6 770b20
"""
CITYSCAPES_TRAINED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # by trainId

# panopticapi panoptic_coco_categories.json, in the order of the ids below
_COCO = """
    dc143c 770b20 00008e 0000e6 6a00e4 003c64 005064 000046 0000c0 faaa1e 64aa1e dcdc00 af74af fa001e a52a2a ff4dff
    00e2fc b6b6ff 005200 78a69d 6e4c00 ae39ff c76400 480076 ffb3f0 007d5c d10097 bcd0b6 00dcb0 ff63a4 5c0049 8581ff
    4eb4ff 00e400 aefff3 2d59ff 868667 9194ae ffd0ba c5e2ff ab8601 6d3f36 cf8aff 97005f 09503d 546933 4a4169 a6c466
    d0c3d2 ff6d41 008f95 b300c2 d1636a 057900 e3ffcd 93bad0 994501 035fa1 a3ff00 7700aa 00b6c7 00a578 b78258 5f2000
    827287 6e8185 a64a76 db8eb9 4fd272 b25a3e 41460f 7fa773 3b696a 8e6c2d c4ac00 5f3650 804cff c93901 f6007a bfa2d0
    ffff80 93d3cb 966464 a8abac 9270c6 d2aa64 5c8859 da58b8 f18100 d911ff 7c4ab5 464646 ffe4ff 9ad000 c1005c 4c5b71
    ffb4c3 6a9ab0 e6968c 3c8fff 804080 5c5237 fed47c 494dae ffa062 ffffff 68546d a9a483 e1c7ff 89364a 879edf 07f6e7
    6bffc8 3a2995 b7798e ff4961 6b8e23 be9999 928b8d 4682b4 86c79c d1e28c 60246c 606060 40aa40 98fb98 d0e5e4 cebaab
    98a140 747000 00728f 66669c fa8dff
"""
_NOT_THINGS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # numbers of 1..90 that COCO does not use
COCO_THINGS = tuple(number for number in range(1, 91) if number not in _NOT_THINGS)
# fmt: off
_COCO_STUFF = (
    92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147, 148, 149, 151, 154,
    155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181, *range(184, 201),
)
# fmt: on


def _table(text: str) -> UInt8[np.ndarray, "k 3"]:
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, 3)


def _after_black(colours: UInt8[np.ndarray, "k 3"]) -> UInt8[np.ndarray, "k+1 3"]:
    return np.concatenate([np.zeros((1, 3), np.uint8), colours])


def voc() -> UInt8[np.ndarray, "256 3"]:
    """Pascal VOC: 0 background, 1..20 classes, 255 the border; all 256 rows differ."""
    return voc_palette()


def ade20k() -> UInt8[np.ndarray, "151 3"]:
    """ADE20K scene parsing: 0 other (black), 1..150 classes."""
    return _after_black(_table(_ADE20K))


def painter_ade20k() -> UInt8[np.ndarray, "151 3"]:
    """Painter's colours of ADE20K's classes (Wang et al. 2023, 3.1): six levels a channel; 0 other (black)."""
    return _after_black(grid_colours(150, 6))


def cityscapes() -> UInt8[np.ndarray, "34 3"]:
    """Cityscapes by labelId, 0..33."""
    return _table(_CITYSCAPES)


def cityscapes_train() -> UInt8[np.ndarray, "19 3"]:
    """Cityscapes by trainId, 0..18, all different and none black; 255 is void in those files."""
    return cityscapes()[list(CITYSCAPES_TRAINED)]


def vipseg() -> UInt8[np.ndarray, "125 3"]:
    """VIPSeg by the class of its panomasks: 0 void (black), 1..124 classes; ADE20K's first 124 colours."""
    return ade20k()[:125]


def coco_panoptic() -> Mapping[int, Colour]:
    """COCO panoptic by category id: 80 things of 1..90, 53 kinds of stuff of 92..200; all differ, none is black."""
    colours = _table(_COCO).tolist()
    return {number: tuple(colour) for number, colour in zip(COCO_THINGS + _COCO_STUFF, colours, strict=True)}


def coco_stuff() -> UInt8[np.ndarray, "183 3"]:
    """COCO-Stuff by category id, 1..182, on a grid of six levels a channel; 0 unlabelled (black).

    The colours of the publisher's own tool could not be read back: all things are black there, and stuff takes 91
    steps of one rainbow.
    """
    return _after_black(grid_colours(182, 6))


def grid_colours(count: int, levels: int) -> UInt8[np.ndarray, "{count} 3"]:
    """Spreads colours over a grid of `levels` a channel from white downwards, as Painter does; none is black."""
    step = 256 // levels
    numbers = np.arange(count)
    digits = np.stack([numbers // levels**2, numbers // levels % levels, numbers % levels], axis=1)
    return (255 - step * digits).astype(np.uint8)
