"""What `dinorad eval knn|logreg|linear --dataset medmnist` computes, in transformers + torchvision + scikit-learn + torch.

    python eval_heads.py features ROOT.npz WEIGHTS_DIR OUT [--image-size 56]     # once
    python eval_heads.py knn|logreg|linear OUT [--paper] ...                     # scores of a head on them
    python eval_heads.py compare OUT/HEAD.json RUN_DIR                           # ours against it

Raw pixels as f32, one channel repeated to three, antialiased bicubic resize straight to N x N, min-max per channel,
ImageNet mean/std, tokens after the final norm; slices of a volume run along its first axis and their features are
averaged. `linear` writes OUT/init.npz: initial weights and batches, for `dinorad eval linear --init`.

The protocol: every setting is trained on train and judged by AUROC on validation (of equals the first), the best one is
(--paper) trained again on train + validation, and the test split is looked at once.
"""
import argparse
import csv
import json
import os
import sys

import numpy as np


def features(a):
    import torch
    from torchvision.transforms.v2 import functional as F
    from transformers import AutoModel

    torch.set_grad_enabled(False)
    model = AutoModel.from_pretrained(a.weights).eval()
    data, n = np.load(a.root), a.image_size
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    registers = getattr(model.config, "num_register_tokens", 0)

    def encode(images):  # (m, h, w) or (m, h, w, 3), u8, to (m, 5, dim): class tokens of 4 blocks, mean patch token
        x = torch.from_numpy(np.ascontiguousarray(images)).float()
        x = x[:, None].expand(-1, 3, -1, -1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
        x = F.resize(x, [n, n], interpolation=F.InterpolationMode.BICUBIC, antialias=True)
        lo, hi = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        x = torch.where(hi > lo, (x - lo) / (hi - lo).clamp_min(1e-30), torch.zeros_like(x))
        out = model(pixel_values=(x - mean) / std, output_hidden_states=True)
        blocks = [model.layernorm(h) for h in out.hidden_states[-4:]]
        return torch.stack([b[:, 0] for b in blocks] + [blocks[-1][:, 1 + registers:].mean(1)], 1)

    os.makedirs(a.out, exist_ok=True)
    arrays = {}
    for split in ("train", "val", "test"):
        images = data[f"{split}_images"]
        volumes = images.ndim == 4 and images.shape[-1] != 3
        parts = [encode(v).mean(0, keepdim=True) for v in images] if volumes else [
            encode(images[i:i + 64]) for i in range(0, len(images), 64)]
        arrays[split] = torch.cat(parts).numpy()
        arrays[f"{split}_labels"] = data[f"{split}_labels"].ravel().astype(int)
    np.savez(f"{a.out}/features.npz", **arrays)


def load(a):
    data = np.load(f"{a.out}/features.npz")
    return {s: (data[s], data[f"{s}_labels"]) for s in ("train", "val", "test")}


def columns(x, blocks, avgpool):
    """Class tokens of the last blocks, oldest first, then the mean patch token."""
    parts = [x[:, 4 - blocks + i] for i in range(blocks)] + ([x[:, 4]] if avgpool else [])
    return np.concatenate(parts, 1)


def auroc(y, p):
    from sklearn.metrics import roc_auc_score

    if p.shape[1] == 2:
        return float(roc_auc_score(y, p[:, 1]))
    return float(roc_auc_score(y, p / p.sum(1, keepdims=True), multi_class="ovr"))


def finish(a, name, result, p, y):
    result |= {"auroc": auroc(y, p), "accuracy": float((p.argmax(1) == y).mean())}
    np.save(f"{a.out}/{name}.npy", p)
    json.dump(result, open(f"{a.out}/{name}.json", "w"), indent=1)
    print(json.dumps(result, indent=1))


def both(splits, paper):
    (x, y), (vx, vy) = splits["train"], splits["val"]
    return (np.concatenate([x, vx]), np.concatenate([y, vy])) if paper else (x, y)


def knn(a):
    splits = load(a)
    unit = lambda x: x[:, 3] / np.linalg.norm(x[:, 3], axis=1, keepdims=True)

    def vote(gallery, labels, queries, k):
        similarity = unit(queries) @ unit(gallery).T
        order = np.argsort(-similarity, 1, kind="stable")[:, :k]
        s = np.take_along_axis(similarity, order, 1) / 0.07
        w = np.exp(s - s.max(1, keepdims=True))
        w /= w.sum(1, keepdims=True)
        # Votes that agree are ties; sums leave noise of 1e-7 on them, which would rank them.
        return np.stack([(w * (labels[order] == c)).sum(1) for c in range(labels.max() + 1)], 1).round(5)

    (x, y), (vx, vy), (tx, ty) = splits["train"], splits["val"], splits["test"]
    scores = [auroc(vy, vote(x, y, vx, k)) for k in a.k]
    best = a.k[int(np.argmax(scores))]
    gx, gy = both(splits, a.paper)
    votes = {k: vote(gx, gy, tx, k) for k in a.k}
    every = {f"auroc_k{k}": auroc(ty, p) for k, p in votes.items()}
    every |= {f"accuracy_k{k}": float((p.argmax(1) == ty).mean()) for k, p in votes.items()}
    finish(a, "knn", {"k": best, "every_k": every}, votes[best], ty)


def logreg(a):
    import warnings
    from sklearn.linear_model import LogisticRegression

    warnings.filterwarnings("ignore")
    splits = load(a)
    sets = {s: (x[:, 3].astype(np.float64), y) for s, (x, y) in splits.items()}

    def fit(x, y, c, warm=None):
        model = warm or LogisticRegression(max_iter=5000, tol=1e-8, warm_start=True)
        model.C = c
        return model.fit(x, y)

    (x, y), (vx, vy), (tx, ty) = sets["train"], sets["val"], sets["test"]
    scores, model = [], None
    strengths = np.logspace(-6, 5, 45)
    for c in strengths:
        model = fit(x, y, c, model)
        scores.append(auroc(vy, model.predict_proba(vx)))
    c = float(strengths[int(np.argmax(scores))])
    gx, gy = both(sets, a.paper)
    finish(a, "logreg", {"C": c, "val_auroc": max(scores)}, fit(gx, gy, c).predict_proba(tx), ty)


def linear(a):
    import torch

    splits = load(a)
    (x, y), (vx, vy), (tx, ty) = splits["train"], splits["val"], splits["test"]
    gx, gy = both(splits, a.paper)
    classes, dim = int(y.max()) + 1, x.shape[2]
    logits = 1 if classes == 2 else classes
    rng = np.random.default_rng(a.seed)
    grid = [(n, pool, lr) for n in (1, 4) for pool in (True, False) for lr in (0.001, 0.005, 0.01, 0.05)]
    name = lambda n, pool, lr: f"linear:blocks={n}:avgpool={pool}:lr={lr:.10f}".replace(".", "_")
    init = {}
    for n, pool, lr in grid:
        width = dim * (n + pool)
        init[f"weight.{name(n, pool, lr)}"] = rng.normal(0, 0.01, (logits, width)).astype(np.float32)
        init[f"bias.{name(n, pool, lr)}"] = np.zeros(logits, np.float32)
    passes = []
    while sum(map(len, passes)) < a.steps * a.batch_size:
        passes.append(rng.permutation(len(x)))
    init["batches"] = np.concatenate(passes)[:a.steps * a.batch_size].reshape(a.steps, a.batch_size).astype(np.int64)
    np.savez(f"{a.out}/init.npz", **init)

    def train(point, x, y):
        n, pool, lr = point
        rows, labels = torch.from_numpy(columns(x, n, pool)), torch.from_numpy(y)
        model = torch.nn.Linear(rows.shape[1], logits)
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(init[f"weight.{name(*point)}"]))
            model.bias.zero_()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, a.steps, eta_min=0)
        for batch in torch.from_numpy(init["batches"]):
            out, target = model(rows[batch]), labels[batch]
            loss = (torch.nn.functional.binary_cross_entropy_with_logits(out[:, 0], target.float())
                    if logits == 1 else torch.nn.functional.cross_entropy(out, target))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return model

    def predict(model, point, x):
        with torch.no_grad():
            out = model(torch.from_numpy(columns(x, point[0], point[1])))
            p = out.sigmoid() if logits == 1 else out.softmax(1)
        return (torch.cat([1 - p, p], 1) if logits == 1 else p).numpy()

    torch.set_num_threads(1)
    models = [train(point, x, y) for point in grid]
    scores = [auroc(vy, predict(m, p, vx)) for m, p in zip(models, grid)]
    best = int(np.argmax(scores))
    model = train(grid[best], gx, gy) if a.paper else models[best]
    by_point = {name(*p): s for p, s in zip(grid, scores)}
    finish(a, "linear", {"point": name(*grid[best]), "val_auroc": scores[best], "val_auroc_by_point": by_point},
           predict(model, grid[best], tx), ty)


def compare(a):
    want = json.load(open(a.reference))
    got = json.load(open(f"{a.run}/metrics.json"))["metrics"]["test"]
    worst = 0.0
    scores = {"auroc": want["auroc"], "accuracy": want["accuracy"], **want.pop("every_k", {})}
    for score, value in scores.items():
        ours = got[score]["mean"]
        worst = max(worst, abs(ours - value) if score.startswith("auroc") else 0.0)
        print(f"{score:14} reference {value:.6f}  ours {ours:.6f}  difference {ours - value:+.2e}")
    p = np.load(a.reference.removesuffix(".json") + ".npy")
    rows = list(csv.reader(open(f"{a.run}/predictions.csv")))[1:]
    q = np.array([[float(v) for v in r[-p.shape[1]:]] for r in rows])
    off = np.abs(p - q).max(axis=1)
    print(f"largest probability difference {off.max():.2e}, median {np.median(off):.2e}")
    print({k: v for k, v in want.items() if k not in ("auroc", "accuracy", "val_auroc_by_point")})
    return worst > 0.002


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    p = commands.add_parser("features")
    p.add_argument("root"), p.add_argument("weights"), p.add_argument("out")
    p.add_argument("--image-size", type=int, default=56)
    p.set_defaults(run_it=features)
    for head in (knn, logreg, linear):
        p = commands.add_parser(head.__name__)
        p.add_argument("out"), p.add_argument("--paper", action="store_true")
        p.add_argument("--k", type=lambda s: [int(v) for v in s.split(",")], default=[5, 20, 50, 100, 200])
        p.add_argument("--steps", type=int, default=1000), p.add_argument("--batch-size", type=int, default=128)
        p.add_argument("--seed", type=int, default=0)
        p.set_defaults(run_it=head)
    p = commands.add_parser("compare")
    p.add_argument("reference"), p.add_argument("run")
    p.set_defaults(run_it=compare)
    arguments = parser.parse_args()
    sys.exit(arguments.run_it(arguments))
