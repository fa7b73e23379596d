"""Full-size encoders with random weights, and what transformers and timm compute from them.

    python make.py OUT [NAME ...]

writes one folder per encoder: the weights as the library saves them, `input.safetensors`,
`expected.safetensors` and `check.json`. `cargo run --release --example full_size_check -- OUT`
compares. Names are those of MODELS; without any, all are made, one after the other, 30 GB in all.

Needs torch, safetensors, timm and transformers; nothing is downloaded.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "g": (1536, 40, 24)}
TIMM = {"s": "small", "b": "base", "l": "large", "g": "giant"}
MODELS = [f"{lib}-{size}{reg}" for lib in ("transformers", "timm") for size in "sbl" for reg in ("", "-reg4")]
MODELS += ["transformers-g", "timm-g"]


def build(name):
    lib, size, *rest = name.split("-")
    registers = 4 if rest else 0
    if lib == "timm":
        import timm

        reg = "_reg4" if registers else ""
        return timm.create_model(f"vit_{TIMM[size]}_patch14{reg}_dinov2", num_classes=0, dynamic_img_size=True)
    import transformers as hf

    dim, depth, heads = SIZES[size]
    args = dict(hidden_size=dim, num_hidden_layers=depth, num_attention_heads=heads, image_size=518, patch_size=14)
    args["use_swiglu_ffn"] = size == "g"
    if registers:
        return hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(num_register_tokens=registers, **args))
    return hf.Dinov2Model(hf.Dinov2Config(**args))


def randomise(model, generator):
    """Values that let every parameter count: no gain near 0, no position table near 0."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lambda1" in name or "gamma" in name:
                p.uniform_(0.1, 0.6, generator=generator)
            elif "norm" in name and name.endswith("weight"):
                p.normal_(1.0, 0.1, generator=generator)
            elif name.endswith("bias"):
                p.normal_(0.0, 0.1, generator=generator)
            elif "token" in name or "pos" in name:
                p.normal_(0.0, 0.5, generator=generator)
            else:
                p.normal_(0.0, p[0].numel() ** -0.5, generator=generator)


def main(out, names):
    for name in names:
        generator = torch.Generator().manual_seed(MODELS.index(name))
        model = build(name).eval()
        randomise(model, generator)
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        sizes = [(224, 224), (154, 238)] + ([(518, 518)] if "-s" in name or "-b" in name else [])
        inputs = {f"{h}x{w}": torch.randn(1, 3, h, w, generator=generator) for h, w in sizes}
        with torch.no_grad():
            if name.startswith("timm"):
                expected = {size: model.forward_features(x) for size, x in inputs.items()}
            else:
                expected = {size: model(x).last_hidden_state for size, x in inputs.items()}
        save_file(inputs, folder / "input.safetensors")
        save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
        if name.startswith("timm"):
            save_file(model.state_dict(), folder / "model.safetensors")
        else:
            model.save_pretrained(folder)
        (folder / "check.json").write_text(json.dumps({"model": name, "tolerance": 1e-3}))
        print(name, "done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or MODELS)
