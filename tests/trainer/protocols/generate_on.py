"""Run by tests as a script: generates the cases of a run on the devices or hosts of this process, and prints some."""

import json
import sys
from pathlib import Path

from trainer import hosts

if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    with hosts.joined(hosts.Hosts(**wanted["hosts"]) if "hosts" in wanted else None):
        import jax  # only now, as in commands: nothing may be computed before hosts are connected
        import numpy as np
        from generating import NEW, make, make_cases

        from trainer.sampling import load_run

        cases = make_cases(new=wanted.get("new", NEW))
        found = make(load_run(wanted["run"]), Path(wanted["out"]), cases, wanted["batch"])
        print(json.dumps({"first": found.read(np.arange(3)).tolist(), "last": found.read(np.arange(149, 150)).tolist(),
                          "devices": jax.local_device_count()}))  # fmt: skip
