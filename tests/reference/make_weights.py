"""Writes a small DINOv2 with seeded random weights as a Hugging Face folder.

    python make_weights.py OUT [--hidden 64 --layers 4 --heads 2 --image 70]

Its features mean nothing; they only have to be the same on both sides of a comparison.
"""
import argparse
import torch
from transformers import Dinov2Config, Dinov2Model

p = argparse.ArgumentParser()
p.add_argument("out")
p.add_argument("--hidden", type=int, default=64)
p.add_argument("--layers", type=int, default=4)
p.add_argument("--heads", type=int, default=2)
p.add_argument("--image", type=int, default=70)
p.add_argument("--seed", type=int, default=0)
a = p.parse_args()
torch.manual_seed(a.seed)
model = Dinov2Model(Dinov2Config(hidden_size=a.hidden, num_hidden_layers=a.layers, num_attention_heads=a.heads,
                                 image_size=a.image, patch_size=14))
with torch.no_grad():
    for name, w in model.named_parameters():
        if "lambda1" in name:
            w.fill_(1.0)
        elif w.ndim > 1:
            w.normal_(0, 0.06)
        elif "bias" in name:
            w.normal_(0, 0.02)
model.save_pretrained(a.out)
