"""transformers' `generate` with a static cache, for generation.py: prints a JSON object with the time of one batch.

python benchmarks/generation_peer.py '{"hidden": 1024, "mlp": 2688, "heads": 8, "layers": 22, "vocabulary": 8256,
"batch": 16, "prompt": 769, "new": 256, "repeats": 3}'

On a GPU in bfloat16, where transformers compiles the step of a static cache by itself; on a CPU in float32.
"""

import json
import statistics
import sys
import time

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM


def main() -> None:
    """Compiles, measures and prints."""
    what = json.loads(sys.argv[1])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    config = LlamaConfig(
        vocab_size=what["vocabulary"], hidden_size=what["hidden"], intermediate_size=what["mlp"],
        num_hidden_layers=what["layers"], num_attention_heads=what["heads"], rms_norm_eps=1e-6,
        max_position_embeddings=what["prompt"] + what["new"], attn_implementation="sdpa", tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(device, torch.bfloat16 if device == "cuda" else torch.float32).eval()
    tokens = torch.randint(0, what["vocabulary"], (what["batch"], what["prompt"]), device=device)
    times = []
    for _ in range(what["repeats"] + 2):  # the first two compile and record
        began = time.perf_counter()
        with torch.inference_mode():
            made = model.generate(
                tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=what["new"], do_sample=True, top_k=100,
                temperature=1.0, cache_implementation="static", pad_token_id=0, eos_token_id=None,
            )  # fmt: skip
        made.cpu()  # waits for the device
        times.append(time.perf_counter() - began)
    assert made.shape[1] == what["prompt"] + what["new"]
    found = {"seconds": statistics.median(times[2:]), "first_seconds": times[0]}
    print(json.dumps({**found, "torch": torch.__version__, "transformers": transformers.__version__, "device": device}))


if __name__ == "__main__":
    main()
