"""Full-size ResNet-152, DenseNet-201, VGG-19 and SAM-L with random weights, and what torchvision
and transformers compute from them.

    python make_cnn_sam.py OUT [NAME ...]

writes one folder per way of saving them, as `make.py` does: the weights, `input.safetensors`,
`expected.safetensors` with `<h>x<w>.cls` (and of SAM `<h>x<w>.patches`), and `check.json`. Names are
those of MODELS; without any, all are made, one after the other, 5 GB in all.

- `*-pth`: the state dictionary in today's zip archive
- `*-old`: in the plain file of before PyTorch 1.6, DenseNet with its old names (`norm.1`)
- `*-timm`: timm's names in safetensors
- `sam-l-hf`: the folder that transformers saves; `sam-l-pth`: the authors' names

Needs torch, torchvision, timm, transformers and safetensors; nothing is downloaded.
"""

import json
import re
import resource
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

NETWORKS = {"resnet-152": "resnet152", "densenet-201": "densenet201", "vgg-19": "vgg19"}
MODELS = [f"{name}-{way}" for name in NETWORKS for way in ("pth", "old", "timm")] + ["sam-l-hf", "sam-l-pth"]
SIZES = [(1, 224, 224), (2, 250, 187)]
# The native size of SAM, and one with resampled positions whose sides are no multiples of a window.
SAM_SIZES = [(1, 1024, 1024), (1, 512, 768)]


def randomise(model, generator):
    """Parameters that all count, and that keep the size of what goes through."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1 and "pos" not in name:
                p.normal_(0.0, (2 / p[0].numel()) ** 0.5, generator=generator)
            elif "pos" in name:
                p.normal_(0.0, 0.3, generator=generator)
            elif name.endswith("bias"):
                p.normal_(0.0, 0.1, generator=generator)
            else:
                # The last norm of a residual branch: fifty of them add up.
                p.normal_(0.2 if ".bn3." in name else 1.0, 0.1, generator=generator)
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.normal_(0.0, 0.2, generator=generator)
            elif name.endswith("running_var"):
                b.uniform_(0.5, 2.0, generator=generator)


def network(name, way, folder, generator):
    import torchvision

    model = getattr(torchvision.models, NETWORKS[name])(weights=None).eval()
    randomise(model, generator)
    state = model.state_dict()
    if way == "pth":
        torch.save(state, folder / "weights.pth")
    elif way == "old":
        old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", k): v for k, v in old.items()}
        torch.save(old, folder / "weights.pth", _use_new_zipfile_serialization=False)
    else:
        import timm

        theirs = timm.create_model(NETWORKS[name]).eval()
        if name == "vgg-19":
            names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
            state = {re.sub(r"^classifier\.\d", lambda m: names[m[0]], k): v for k, v in state.items()}
            state = {k: v.reshape(theirs.state_dict()[k].shape) for k, v in state.items()}
        theirs.load_state_dict(state)  # strict: these are timm's names
        save_file(theirs.state_dict(), folder / "model.safetensors")
    last = "fc" if name == "resnet-152" else "classifier"
    if name == "vgg-19":
        model.classifier[6] = torch.nn.Identity()
    else:
        setattr(model, last, torch.nn.Identity())
    return model


class SamFeatures(torch.nn.Module):
    """Positions of the encoder without its neck, `(b, h, w, dim)`."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.encoder.neck = torch.nn.Identity()
        self.native = encoder.pos_embed.data

    def forward(self, pixels):
        patch = self.encoder.config.patch_size
        grid = [side // patch for side in pixels.shape[2:]]
        table = self.native.permute(0, 3, 1, 2)
        if list(table.shape[2:]) != grid:
            table = F.interpolate(table, grid, mode="bicubic", align_corners=False)
        self.encoder.pos_embed.data = table.permute(0, 2, 3, 1)
        self.encoder.patch_embed.image_size = tuple(pixels.shape[2:])
        return self.encoder(pixels).last_hidden_state


def sam(way, folder, generator):
    import transformers as hf

    vision = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, global_attn_indexes=[5, 11, 17, 23])
    model = hf.SamModel(hf.SamConfig(vision_config=vision)).eval()
    randomise(model, generator)
    if way == "hf":
        model.save_pretrained(folder)
    else:
        torch.save({authors(k): v for k, v in model.state_dict().items()}, folder / "sam_vit_l.pth")
    return SamFeatures(model.vision_encoder)


def authors(name):
    """A name of transformers as segment-anything has it; decoders keep theirs, which nobody reads."""
    if not name.startswith("vision_encoder."):
        return name
    name = name.replace("vision_encoder.", "image_encoder.").replace("patch_embed.projection", "patch_embed.proj")
    for theirs, ours in {"conv1": "0", "layer_norm1": "1", "conv2": "2", "layer_norm2": "3"}.items():
        name = name.replace(f"neck.{theirs}", f"neck.{ours}")
    return name.replace(".layers.", ".blocks.").replace(".layer_norm", ".norm")


def main(out, names):
    for name in names:
        generator = torch.Generator().manual_seed(MODELS.index(name))
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        base, way = name.rsplit("-", 1)
        is_sam = base == "sam-l"
        model = sam(way, folder, generator) if is_sam else network(base, way, folder, generator)
        sizes = SAM_SIZES if is_sam else SIZES
        inputs = {f"{h}x{w}": torch.randn(b, 3, h, w, generator=generator) for b, h, w in sizes}
        expected, seconds = {}, {}
        with torch.no_grad():
            for size, x in inputs.items():
                start = time.time()
                features = model(x)
                seconds[size] = round(time.time() - start, 3)
                expected[f"{size}.cls"] = features.mean((1, 2)) if is_sam else features
                if is_sam:
                    expected[f"{size}.patches"] = features.flatten(1, 2)
        save_file(inputs, folder / "input.safetensors")
        save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
        # transformers' folder is a source by itself.
        weights = {"hf": "", "timm": "model.safetensors"}.get(way, "sam_vit_l.pth" if is_sam else "weights.pth")
        (folder / "check.json").write_text(json.dumps({"model": name, "tolerance": 1e-3, "weights": weights}))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(name, "done, seconds", seconds, f"peak {peak:.0f} MiB", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or MODELS)
