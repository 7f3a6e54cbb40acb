"""Run by tests as a script: judges label maps on the hosts of this process, and prints every figure of the model."""

import json
import sys
from pathlib import Path

from trainer import hosts

if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    with hosts.joined(hosts.Hosts(**wanted["hosts"]) if "hosts" in wanted else None):
        from measured_parts import cases_of, part_of, pooling, samples_of

        from tokenizer.load import load
        from trainer.protocols import judging
        from trainer.protocols.measuring import measure

        judging.TOGETHER = 7  # several batches for each host
        tokenizer = load(wanted["tokenizer"])
        cases, out = cases_of("labels", tokenizer, 40), Path(wanted["out"])
        found = measure(
            part_of("labels", "fid", "is", "miou", "psnr"), cases, samples_of(cases, out), tokenizer,
            {"images": pooling("images")}, out, pixels="a",
        )  # fmt: skip
        print(json.dumps({figure.name: figure.model.value for figure in found.figures}))
