"""What PEFT makes of an adapter folder of ours, and transformers of a merged encoder: the same as we do.

    cargo run --release --example peft_folder -- ENCODER OUT 5
    python tests/reference/peft_folder.py ENCODER OUT

Run it under the transformers (4 or 5) whose names the folder has.
"""
import sys

import peft
import torch
import transformers
from safetensors.torch import load_file

encoder, out = sys.argv[1:3]
expected = load_file(f"{out}/expected.safetensors")
worst = 0.0
base = transformers.AutoModel.from_pretrained(encoder).eval()
for name, model in [
    ("adapter", peft.PeftModel.from_pretrained(base, f"{out}/adapter").eval()),
    ("merged", transformers.AutoModel.from_pretrained(f"{out}/merged").eval()),
]:
    with torch.no_grad():
        got = model(pixel_values=expected["pixels"]).last_hidden_state
    error = (got - expected["last_hidden_state"]).abs().max().item()
    print(f"{name}: transformers {transformers.__version__}, peft {peft.__version__}: max abs error {error:.2e}")
    worst = max(worst, error)
sys.exit(worst > 1e-5)
