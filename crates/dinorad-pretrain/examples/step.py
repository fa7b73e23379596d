"""The step that `step.rs` wrote down, in PyTorch: losses, gradients, seconds, memory. Needs torch, transformers.

    python crates/dinorad-pretrain/examples/step.py FOLDER [STEPS TO TIME]
"""

import json
import resource
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import Dinov2Model

STUDENT_TEMP, TEACHER_TEMP, KOLEO, CLIP = 0.1, 0.04, 0.1, 3.0


class Head(torch.nn.Module):
    def __init__(self, weights):
        super().__init__()
        count = sum(name.startswith("mlp.") and name.endswith("weight") for name in weights)
        layers = []
        for i in range(count):
            out, width = weights[f"mlp.{2 * i}.weight"].shape
            layers += [torch.nn.Linear(width, out), torch.nn.GELU()]
        self.mlp = torch.nn.Sequential(*layers[:-1])
        self.last_layer = torch.nn.Module()
        self.last_layer.weight_v = torch.nn.Parameter(weights["last_layer.weight_v"])
        self.mlp.load_state_dict({k[4:]: v for k, v in weights.items() if k.startswith("mlp.")})

    def forward(self, x):
        x = F.normalize(self.mlp(x), dim=-1, eps=1e-12)
        return x @ F.normalize(self.last_layer.weight_v, dim=-1, eps=1e-12).T


@torch.no_grad()
def sinkhorn(scores, temperature, iterations=3):
    q = torch.exp(scores / temperature).T
    k, b = q.shape
    q /= q.sum()
    for _ in range(iterations):
        q /= q.sum(dim=1, keepdim=True) * k
        q /= q.sum(dim=0, keepdim=True) * b
    return (q * b).T


def cross_entropy(scores, targets):
    return -(targets * F.log_softmax(scores / STUDENT_TEMP, dim=-1)).sum(-1)


def koleo(x):
    x = F.normalize(x, eps=1e-8, dim=-1)
    with torch.no_grad():
        products = x @ x.T
        products.fill_diagonal_(-1)
        nearest = products.argmax(1)
    return -torch.log(F.pairwise_distance(x, x[nearest], 2, 1e-8) + 1e-8).mean()


def losses(student, head, teacher, teacher_head, large, small, masks):
    rows = large.shape[0]
    b, crops = rows // 2, 2
    local = small.shape[0] // b
    chosen = masks.bool()
    with torch.no_grad():
        said = teacher(pixel_values=large).last_hidden_state
        targets = sinkhorn(teacher_head(said[:, 0]), TEACHER_TEMP)
        patch_targets = sinkhorn(teacher_head(said[:, 1:][chosen]), TEACHER_TEMP)
    pairs = crops * (crops - 1) + crops * local
    of_small = head(student(pixel_values=small).last_hidden_state[:, 0])
    all_targets = (targets[:b] + targets[b:]).repeat(local, 1)
    out = {"local": cross_entropy(of_small, all_targets).sum() / (b * pairs)}
    tokens = student(pixel_values=large, bool_masked_pos=chosen).last_hidden_state
    others = torch.cat([targets[b:], targets[:b]])
    out["global"] = cross_entropy(head(tokens[:, 0]), others).sum() / (b * pairs)
    weights = (1 / masks.sum(-1).clamp(min=1)).unsqueeze(-1).expand_as(masks)[chosen]
    out["patches"] = (cross_entropy(head(tokens[:, 1:][chosen]), patch_targets) * weights).sum() / rows
    out["spread"] = KOLEO * sum(koleo(part) for part in tokens[:, 0].chunk(crops))
    return out


NAMES = {
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "norm.weight": "layernorm.weight",
}


def main(folder: str, timed: int) -> None:
    stored = load_file(f"{folder}/step.safetensors")
    ours = json.load(open(f"{folder}/losses.json"))

    def model():
        return Dinov2Model.from_pretrained(f"{folder}/encoder", attn_implementation="sdpa").train()

    def fresh_head():
        prefix = "weight.dino_head."
        return Head({k[len(prefix):]: v.clone() for k, v in stored.items() if k.startswith(prefix)})

    student, head, teacher, teacher_head = model(), fresh_head(), model().eval(), fresh_head()
    large, small, masks = stored["global"], stored["local"], stored["masks"].float()
    got = losses(student, head, teacher, teacher_head, large, small, masks)
    for name, value in got.items():
        difference = abs(value.item() - ours[name])
        print(f"{name}: {value.item():.6f}, ours {ours[name]:.6f}")
        assert difference < 2e-4 * (1 + abs(ours[name])), name
    sum(got.values()).backward()
    theirs = {f"encoder.{own}": dict(student.named_parameters())[name].grad for own, name in NAMES.items()}
    depth = len({n.split(".")[2] for n, _ in student.named_parameters() if n.startswith("encoder.layer.")})
    for i in range(depth):
        for part in ("norm1.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc2.bias"):
            theirs[f"encoder.blocks.{i}.{part}"] = dict(student.named_parameters())[f"encoder.layer.{i}.{part}"].grad
    theirs |= {f"dino_head.{name}": p.grad for name, p in head.named_parameters()}
    worst = 0.0
    for name, gradient in theirs.items():
        mine = stored[f"gradient.{name}"].reshape(gradient.shape)
        relative = ((mine - gradient).norm() / gradient.norm().clamp(min=1e-8)).item()
        worst = max(worst, relative)
        assert relative < 2e-3, f"{name}: {relative}"
    print(f"{len(theirs)} gradients, largest relative difference {worst:.1e}")
    if not timed:
        return
    parameters = [*student.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    seconds = []
    for _ in range(timed):
        started = time.time()
        optimizer.zero_grad(set_to_none=True)
        sum(losses(student, head, teacher, teacher_head, large, small, masks).values()).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        torch.nn.utils.clip_grad_norm_(head.parameters(), CLIP)
        optimizer.step()
        with torch.no_grad():
            for old, new in zip([*teacher.parameters(), *teacher_head.parameters()], parameters):
                old.mul_(0.992).add_(new, alpha=0.008)
        seconds.append(time.time() - started)
    median = sorted(seconds)[len(seconds) // 2]
    print(f"{median:.3f} s a step, {large.shape[0] / 2 / median:.2f} images/s")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss} kB")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
