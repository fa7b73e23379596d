"""Loads an exported encoder folder with `transformers` and compares its tokens with ours.

    cargo run --release -p dinorad-pretrain --example pretrain -- /tmp/pretrained 8
    cargo run --release -p dinorad-pretrain --example tokens -- /tmp/pretrained/encoder /tmp/tokens.safetensors
    python crates/dinorad-pretrain/tests/transformers/check_export.py /tmp/pretrained/encoder /tmp/tokens.safetensors

Fails if a tensor is missing, unused or of another shape, if the processor does not load, or if a token differs by
more than 2e-4 at any of the sizes. Needs torch, transformers, safetensors.
"""

import sys

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoImageProcessor, Dinov2Model, Dinov2WithRegistersModel


def main(folder: str, tokens: str) -> None:
    config = AutoConfig.from_pretrained(folder)
    kind = {"dinov2": Dinov2Model, "dinov2_with_registers": Dinov2WithRegistersModel}[config.model_type]
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    wrong = {name: found for name, found in info.items() if found}
    assert not wrong, wrong
    processor = AutoImageProcessor.from_pretrained(folder)
    ours = load_file(tokens)
    sizes = sorted({name.split(".")[0] for name in ours})
    assert sizes, "no tokens to compare"
    model.eval()
    for size in sizes:
        with torch.no_grad():
            theirs = model(pixel_values=ours[f"{size}.pixels"]).last_hidden_state
        worst = (theirs - ours[f"{size}.tokens"]).abs().max().item()
        print(f"{kind.__name__} at {size}: largest difference {worst:.2e}")
        assert worst < 2e-4, worst
    print("processor:", type(processor).__name__)


if __name__ == "__main__":
    main(*sys.argv[1:])
