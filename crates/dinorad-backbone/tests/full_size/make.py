"""Full-size encoders with random weights, and what each one's own library computes from them.

    python make.py OUT [NAME ...]

writes one folder per encoder: the weights as the library saves them, `input.safetensors`,
`expected.safetensors` and `check.json`. `cargo run --release --example full_size_check -- OUT`
compares. Names are those of MODELS; without any, all are made, one after the other, 50 GB in all.

`expected.safetensors` holds, per input `<h>x<w>`: under that name all tokens after the model's final
norm; or `<h>x<w>.cls` and `<h>x<w>.patches` where these are not tokens of one kind.

Needs torch, safetensors, timm, transformers, open_clip_torch and torchvision; nothing is downloaded.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "g": (1536, 40, 24)}
TIMM = {"s": "small", "b": "base", "l": "large", "g": "giant"}


class Model:
    """A module, how it is saved, and what it computes: `run(x)` gives {suffix: tensor}."""

    def __init__(self, module, run, save, sizes=((224, 224),), weights=""):
        self.module, self.run, self.save, self.sizes, self.weights = module, run, save, sizes, weights


def hugging_face(module, run, **kwargs):
    return Model(module, run, lambda folder: module.save_pretrained(folder), **kwargs)


def state_dict(module, run, name="model.safetensors", config=None, **kwargs):
    def save(folder):
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / name)
        if config:
            (folder / config[0]).write_text(json.dumps(config[1]))

    return Model(module, run, save, weights=name, **kwargs)


def dinov2(name):
    lib, size, *rest = name.split("-")
    registers = 4 if rest else 0
    sizes = [(224, 224), (154, 238)] + ([(518, 518)] if size in "sb" else [])
    if lib == "timm":
        import timm

        reg = "_reg4" if registers else ""
        module = timm.create_model(f"vit_{TIMM[size]}_patch14{reg}_dinov2", num_classes=0, dynamic_img_size=True)
        return state_dict(module, lambda x: {"": module.forward_features(x)}, sizes=sizes)
    import transformers as hf

    dim, depth, heads = SIZES[size]
    args = dict(hidden_size=dim, num_hidden_layers=depth, num_attention_heads=heads, image_size=518, patch_size=14)
    args["use_swiglu_ffn"] = size == "g"
    if registers:
        module = hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(num_register_tokens=registers, **args))
    else:
        module = hf.Dinov2Model(hf.Dinov2Config(**args))
    return hugging_face(module, lambda x: {"": module(x).last_hidden_state}, sizes=sizes)


VIT_L16 = dict(
    hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, image_size=224, patch_size=16
)


def vit():
    import transformers as hf

    # The published file has the pooler of the classification model.
    module = hf.ViTModel(hf.ViTConfig(**VIT_L16))
    return hugging_face(module, lambda x: {"": module(x).last_hidden_state})


def mae():
    import transformers as hf

    module = hf.ViTMAEForPreTraining(hf.ViTMAEConfig(**VIT_L16))
    # The study loads it as a plain ViT: no patch is masked, none shuffled.
    plain = hf.ViTModel(hf.ViTConfig(**VIT_L16), add_pooling_layer=False).eval()

    def run(x):
        plain.load_state_dict(module.vit.state_dict())
        return {"": plain(x).last_hidden_state}

    return hugging_face(module, run)


def msn():
    import transformers as hf

    module = hf.ViTMSNModel(hf.ViTMSNConfig(**VIT_L16))
    return hugging_face(module, lambda x: {"": module(x).last_hidden_state})


def clip(name):
    """Both towers as transformers saves them; of the text tower, which is ignored, one small layer."""
    import transformers as hf

    vision = {
        "l14": dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096),
        "h14": dict(
            hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, intermediate_size=5120, hidden_act="gelu"
        ),
    }[name]
    text = dict(hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=64, vocab_size=100)
    config = hf.CLIPConfig(
        vision_config=dict(image_size=224, patch_size=14, **vision), text_config=text, projection_dim=768
    )
    module = hf.CLIPModel(config)
    tower = module.vision_model

    def run(x):
        # transformers normalises the class token alone.
        out = tower(x)
        tokens = tower.post_layernorm(out.last_hidden_state)
        assert torch.equal(tokens[:, 0], out.pooler_output)
        return {"": tokens}

    return hugging_face(module, run)


def open_clip(model_cfg, run):
    import open_clip

    text = dict(context_length=8, vocab_size=100, width=64, heads=1, layers=1)
    module = open_clip.CLIP(model_cfg["embed_dim"], vision_cfg=model_cfg["vision_cfg"], text_cfg=text)
    config = {
        "model_cfg": model_cfg,
        "preprocess_cfg": {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD},
    }
    run = run(module.visual)
    return state_dict(module, run, "open_clip_model.safetensors", config=("open_clip_config.json", config))


def openclip_huge():
    vision = dict(image_size=224, layers=32, width=1280, head_width=80, patch_size=14)

    def run(visual):
        # open_clip gives the class token (before its projection) and the patches apart.
        visual.proj_kept, visual.proj = visual.proj, None
        visual.output_tokens = True

        def tokens(x):
            cls, patches = visual(x)
            return {"": torch.cat([cls[:, None], patches], 1)}

        return tokens

    model = open_clip(dict(embed_dim=1024, vision_cfg=vision, text_cfg={}), run)
    save, module = model.save, model.module

    def save_with_projection(folder):
        module.visual.proj = module.visual.proj_kept
        del module.visual.proj_kept
        save(folder)

    model.save = save_with_projection
    return model


def biomedclip():
    vision = dict(
        timm_model_name="vit_base_patch16_224", timm_model_pretrained=False, timm_pool="", timm_proj="linear", image_size=224
    )

    def run(visual):
        return lambda x: {".cls": visual(x), ".patches": visual.trunk.forward_features(x)[:, 1:]}

    return open_clip(dict(embed_dim=512, vision_cfg=vision, text_cfg={}), run)


def timm_vit():
    import timm

    name = "vit_large_patch16_224"
    module = timm.create_model(name, num_classes=0)
    config = {"architecture": name, "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    return state_dict(module, lambda x: {"": module.forward_features(x)}, config=("config.json", config))


def dinov3(size):
    import transformers as hf

    dim, depth, heads = SIZES[size]
    config = hf.DINOv3ViTConfig(
        hidden_size=dim,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * dim,
        num_register_tokens=4,
    )
    module = hf.DINOv3ViTModel(config)
    return hugging_face(module, lambda x: {"": module(x).last_hidden_state}, sizes=((224, 224), (160, 256)))


def timm_dinov3():
    import timm

    name = "vit_small_patch16_dinov3"
    module = timm.create_model(name, num_classes=0)
    config = {"architecture": name, "pretrained_cfg": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}
    run = lambda x: {"": module.forward_features(x)}  # noqa: E731
    return state_dict(module, run, config=("config.json", config), sizes=((224, 224), (160, 256)))


MODELS = {
    f"{lib}-{size}{reg}": dinov2 for lib in ("transformers", "timm") for size in "sbl" for reg in ("", "-reg4")
}
MODELS |= {"transformers-g": dinov2, "timm-g": dinov2}
STUDY = {
    "transformers-vit-l16": vit,
    "transformers-mae-l16": mae,
    "transformers-msn-l16": msn,
    "transformers-clip-l14": lambda: clip("l14"),
    "transformers-openclip-h14": lambda: clip("h14"),
    "open_clip-h14": openclip_huge,
    "open_clip-biomedclip": biomedclip,
    "timm-vit-l16": timm_vit,
    "transformers-dinov3-s": lambda: dinov3("s"),
    "transformers-dinov3-b": lambda: dinov3("b"),
    "transformers-dinov3-l": lambda: dinov3("l"),
    "timm-dinov3-s": timm_dinov3,
}


def randomise(model, generator):
    """Values that let every parameter count: no gain near 0, no position table near 0."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lambda1" in name or "gamma" in name:
                p.uniform_(0.1, 0.6, generator=generator)
            elif ("norm" in name or "ln_" in name or p.dim() == 1) and name.endswith("weight"):
                p.normal_(1.0, 0.1, generator=generator)
            elif name.endswith("bias"):
                p.normal_(0.0, 0.1, generator=generator)
            elif p.dim() < 2 or "token" in name or "pos" in name or "class_embedding" in name:
                p.normal_(0.0, 0.5, generator=generator)
            else:
                p.normal_(0.0, p[0].numel() ** -0.5, generator=generator)
        for name, b in model.named_buffers():
            # What batch norm has seen in training.
            if name.endswith("running_mean"):
                b.normal_(0.0, 0.5, generator=generator)
            elif name.endswith("running_var"):
                b.uniform_(0.5, 1.5, generator=generator)


def main(out, names):
    every = [*MODELS, *STUDY]
    for name in names or every:
        generator = torch.Generator().manual_seed(every.index(name))
        model = MODELS[name](name) if name in MODELS else STUDY[name]()
        model.module.eval()
        randomise(model.module, generator)
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        inputs = {f"{h}x{w}": torch.randn(1, 3, h, w, generator=generator) for h, w in model.sizes}
        expected = {}
        with torch.no_grad():
            for size, x in inputs.items():
                expected |= {size + suffix: value.contiguous() for suffix, value in model.run(x).items()}
        save_file(inputs, folder / "input.safetensors")
        save_file(expected, folder / "expected.safetensors")
        model.save(folder)
        check = {"model": name, "tolerance": 1e-3, "weights": model.weights}
        (folder / "check.json").write_text(json.dumps(check))
        print(name, "done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
