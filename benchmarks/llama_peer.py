"""transformers' LlamaForCausalLM trained under torch.compile, for trainer.py: prints a JSON object with the rate.

python benchmarks/llama_peer.py '{"hidden": 1024, "mlp": 2688, "heads": 8, "layers": 22, "vocabulary": 8256,
"batch": 64, "context": 256, "steps": 10}'

On a GPU: bfloat16 autocast, flash attention of scaled_dot_product_attention, fused AdamW. On a CPU: float32.
"""

import contextlib
import json
import statistics
import sys
import time

import torch
import transformers
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import LlamaConfig, LlamaForCausalLM


def make_step(what: dict, device: str) -> object:
    """Returns a function that runs one training step on tokens int64[b, t + 1] and returns the loss."""
    config = LlamaConfig(
        vocab_size=what["vocabulary"], hidden_size=what["hidden"], intermediate_size=what["mlp"],
        num_hidden_layers=what["layers"], num_attention_heads=what["heads"], rms_norm_eps=1e-6,
        max_position_embeddings=what["context"], attn_implementation="sdpa", use_cache=False,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(device).train()
    compiled = torch.compile(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1.5e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True
    )
    on_gpu = device == "cuda"
    half = torch.autocast("cuda", dtype=torch.bfloat16) if on_gpu else contextlib.nullcontext()
    flash = sdpa_kernel(SDPBackend.FLASH_ATTENTION) if on_gpu else contextlib.nullcontext()

    def step(tokens: torch.Tensor) -> float:
        with half, flash:
            logits = compiled(input_ids=tokens[:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss)  # waits for the device

    return step


def main() -> None:
    """Compiles, measures and prints."""
    what = json.loads(sys.argv[1])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    step = make_step(what, device)
    tokens = torch.randint(0, what["vocabulary"], (what["batch"], what["context"] + 1), device=device)
    step(tokens)
    times = []
    for _ in range(what["steps"]):
        began = time.perf_counter()
        loss = step(tokens)
        times.append(time.perf_counter() - began)
    found = {"seconds": statistics.median(times), "loss": loss}
    print(json.dumps({**found, "torch": torch.__version__, "transformers": transformers.__version__, "device": device}))


if __name__ == "__main__":
    main()
