"""The README of an exported folder: what to feed the model, and what it returns."""

from trainer.run_folder import SavedRun


def readme(run: SavedRun) -> str:
    """Returns the text; its example runs as it stands beside a file of codes."""
    model, card = run.config.model, run.lock.card
    each = card.tokens_per_image
    first = "no token" if model.begin is None else f"token {model.begin}"
    begins = (
        f"A sentence begins with **token {model.begin}**, `bos_token_id`. Put it before the codes yourself."
        if model.begin is not None
        else "A sentence begins with its first code: there is no begin token, and `bos_token_id` is null."
    )
    start = "" if model.begin is None else f"{model.begin}, "
    special = (
        f"Tokens {model.codebook_size} to {model.vocabulary - 1} are special; `generation_config.json` keeps them from "
        "being drawn."
        if model.special_tokens
        else "There are no special tokens."
    )
    return f"""\
---
library_name: transformers
---

# {model.name}, trained with visent

A LLaMA decoder with {model.parameters:,} trained parameters: step {run.step} of recipe `{run.config.recipe}`. Its
tokens are codes of images: {each} for each image of {card.image_size} x {card.image_size} pixels, row by row, made by
tokenizer `{card.name}` (fingerprint `{card.fingerprint}`). It continues a visual sentence: a sequence of images.

- Tokens 0 to {model.codebook_size - 1} are codes. {special}
- {begins}
- There is no end token: an image is exactly {each} codes.
- A sentence of its training had at most {max(stage.context or 0 for stage in run.config.stages.values())} codes.

Codes come from `visent tokenizer encode photo.png drawing.png --out codes.npz`, and
`visent tokenizer decode new.npy --out pictures/` shows what was generated.

```python
import numpy as np
import torch
from transformers import LlamaForCausalLM

model = LlamaForCausalLM.from_pretrained(".").eval()
codes = np.load("codes.npz")["codes"].reshape(-1).tolist()  # of all images of the prompt, one after the other
prompt = torch.tensor([[{start}*codes]])  # begins with {first}
with torch.no_grad():
    whole = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens={each}, do_sample=True, top_k=100
    )
np.save("new.npy", whole[:, -{each}:].numpy())  # one image in each row
```

Back into a run of visent, with a manifest whose shards have the same tokenizer:

```
visent model import . --manifest manifest.toml --out run/
```
"""
