"""The protocols by name, and the data that their parts want."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trainer.protocols.delvm import FOLDS, delvm
from trainer.protocols.lvm import lvm
from trainer.protocols.lvm_lite import lvm_lite
from trainer.protocols.part import Part, Protocol
from visent.errors import UserError, unknown


@dataclass(frozen=True, kw_only=True)
class Known:
    """A protocol that `visent evaluate --protocol` takes. `make` is None where its parts come from the run itself."""

    about: str
    make: Callable[[], Protocol] | None = None
    tokens: bool = False  # whether loss, accuracy and perplexity of the run's tasks belong to it


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A dataset that parts want."""

    what: str
    split: str  # that is judged
    tokenize: str  # arguments of `visent tokenize`, all but --out
    note: str = ""

    def commands(self, name: str) -> list[str]:
        """Returns the commands that make it, as the folder `corpus/NAME`."""
        folder = f"corpus/{name}"
        return [f"visent tokenize {self.tokenize} --split {self.split} --out {folder}",
                f"visent pixels {folder} --split {self.split}"]  # fmt: skip


PROTOCOLS: Mapping[str, Known] = {
    "lvm-lite": Known(about=lvm_lite().about, make=lvm_lite, tokens=True),
    "delvm": Known(about=delvm().about, make=delvm, tokens=True),
    "lvm": Known(about=lvm().about, make=lvm, tokens=True),
    "tasks": Known(about="a part for each task of the run's last stage, on its own held-out rows", tokens=True),
    "forgetting": Known(about="loss of every task after each stage of an ordered run; nothing is generated"),
}

_ROLES = "edge=models/dexined.toml,depth=models/depth_anything.toml,semantic=models/mask2former.toml"

# Frames are sampled as `visent manifest init --recipe lvm-lite` has them, so that a model is judged at the rate that it
# was trained at; the papers' rates were not at hand.
DATA: Mapping[str, Wanted] = {
    "ucf101": Wanted(what="UCF101, test list 1", split="test",
                     tokenize="ucf101 --root ucf101 --max-frames 16"),
    "ssv2": Wanted(what="Something-Something v2, validation", split="val",
                   tokenize="ssv2 --root ssv2 --fps 12 --max-frames 16"),
    "kinetics600": Wanted(what="Kinetics-600, validation", split="val",
                          tokenize="kinetics --root kinetics600 --max-frames 16 --max-reject-fraction 0.3"),
    "imagenet": Wanted(what="ImageNet, validation, with maps that networks draw", split="val",
                       tokenize=f"imagenet --root imagenet --annotate {_ROLES}",
                       note="ROLE=FILE.toml is an ONNX network of yours; which one drew the maps decides the figures"),
    "ade20k": Wanted(what="ADE20K scene parsing, validation", split="val", tokenize="ade20k --root ade20k"),
    "cityscapes": Wanted(what="Cityscapes, validation", split="val",
                         tokenize="cityscapes --root cityscapes --classes train"),
    **{f"pascal5i-{fold}": Wanted(what=f"Pascal-5i, classes of split {fold}", split="val",
                                  tokenize=f"pascal5i --root VOCdevkit --fold {fold}") for fold in range(FOLDS)},
}  # fmt: skip


def find(name: str) -> Known:
    """Returns what is known of a protocol.

    Raises:
        UserError: there is none of this name.
    """
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def make(name: str) -> Protocol:
    """Returns a paper's protocol.

    Raises:
        UserError: there is none of this name, or its parts come from a run (`by_tasks.by_tasks`).
    """
    known = find(name)
    if known.make is None:
        raise UserError(f"protocol {name!r} is made from a run: expected one of "
                        f"{', '.join(each for each, one in PROTOCOLS.items() if one.make)}")  # fmt: skip
    return known.make()


def select(protocol: Protocol, names: Sequence[str]) -> list[Part]:
    """Returns the parts of these names, each once, all where none is named.

    Raises:
        UserError: the protocol has no part of a name.
    """
    parts = {part.name: part for part in protocol.parts}
    for name in names:
        if name not in parts:
            raise unknown(f"part of protocol {protocol.name!r}", name, parts)
    return [parts[name] for name in dict.fromkeys(names)] if names else list(protocol.parts)


def split_of(data: str) -> str:
    """Returns the split on which a dataset of a protocol is judged; "val" of any other."""
    return DATA[data].split if data in DATA else "val"


def check_data(protocol: Protocol, names: Sequence[str]) -> None:
    """Checks the names of `--data NAME=FOLDER`.

    Raises:
        UserError: no part wants one of them.
    """
    wanted = {part.data for part in protocol.parts}
    for name in names:
        if name not in wanted:
            raise unknown(f"data of protocol {protocol.name!r}", name, wanted)


def not_run(part: Part) -> str:
    """Returns what stands in the row of a part whose data was not given: what it wants, and what makes it."""
    wanted = DATA.get(part.data)
    if wanted is None:
        return f"not run: give its data as --data {part.data}=FOLDER"
    made = "` and `".join(wanted.commands(part.data))
    note = f" ({wanted.note})" if wanted.note else ""
    return f"not run: give {wanted.what} as --data {part.data}=corpus/{part.data}, made by `{made}`{note}"


def help_text() -> str:
    """Returns the protocols, their parts and the commands that make their data, for `visent evaluate --help`."""
    lines = ["Protocols:"]
    for name, known in PROTOCOLS.items():
        lines.append(f"  {name}: {known.about}")
        if known.make is not None:
            lines += [f"    --data {part.data}=...  {part.name}" for part in known.make().parts]
    lines.append("")
    lines.append("Their data:")
    for name, wanted in DATA.items():
        lines.append(f"  {name}: {wanted.what}" + (f"; {wanted.note}" if wanted.note else ""))
        lines += [f"    {command}" for command in wanted.commands(name)]
    return "\n".join(lines)
