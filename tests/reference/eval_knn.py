"""What `dinorad eval knn --dataset medmnist` computes, in transformers + torchvision + scikit-learn.

    python eval_knn.py ROOT.npz WEIGHTS_DIR OUT --k 1,5,20 --image-size 56 [--paper]
    python eval_knn.py --compare OUT RUN_DIR        # ours against it

Raw pixels as f32, one channel repeated to three, antialiased bicubic resize straight to N x N, min-max per
channel, ImageNet mean/std, final-norm class token; slices of a volume run along its first axis and their class
tokens are averaged; cosine kNN (softmax of similarity / 0.07 over the k neighbours).
"""
import argparse, csv, json, os, sys
import numpy as np


def reference(a):
    import torch
    from sklearn.metrics import roc_auc_score
    from torchvision.transforms.v2 import functional as F
    from transformers import AutoModel

    torch.set_grad_enabled(False)
    model = AutoModel.from_pretrained(a.weights).eval()
    data, n = np.load(a.root), a.image_size
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    def encode(images):  # (m, h, w) or (m, h, w, 3), u8
        x = torch.from_numpy(np.ascontiguousarray(images)).float()
        x = x[:, None].expand(-1, 3, -1, -1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
        x = F.resize(x, [n, n], interpolation=F.InterpolationMode.BICUBIC, antialias=True)
        lo, hi = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        x = torch.where(hi > lo, (x - lo) / (hi - lo).clamp_min(1e-30), torch.zeros_like(x))
        return model(pixel_values=(x - mean) / std).last_hidden_state[:, 0]

    def features(split):
        images = data[f"{split}_images"]
        if images.ndim == 4 and images.shape[-1] != 3:
            return torch.stack([encode(v).mean(0) for v in images])
        return torch.cat([encode(images[i:i + 64]) for i in range(0, len(images), 64)])

    feats = {s: torch.nn.functional.normalize(features(s), dim=1) for s in ("train", "val", "test")}
    labels = {s: data[f"{s}_labels"].ravel().astype(int) for s in feats}
    gallery, gl = feats["train"], labels["train"]
    if a.paper:
        gallery, gl = torch.cat([gallery, feats["val"]]), np.concatenate([gl, labels["val"]])
    classes = int(gl.max()) + 1
    onehot = torch.eye(classes)[torch.from_numpy(gl)]
    os.makedirs(a.out, exist_ok=True)
    result = {}
    for k in a.k:
        sim, idx = (feats["test"] @ gallery.T).topk(k, dim=1)
        # Votes that agree are ties; torch's sums leave noise of 1e-7 on them, which would rank them.
        p = ((sim / 0.07).softmax(1)[..., None] * onehot[idx]).sum(1).numpy().round(5)
        y = labels["test"]
        result[f"auroc_k{k}"] = float(roc_auc_score(y, p[:, 1]) if classes == 2 else
                                      roc_auc_score(y, p / p.sum(1, keepdims=True), multi_class="ovr"))
        result[f"accuracy_k{k}"] = float((p.argmax(1) == y).mean())
        np.save(f"{a.out}/predictions-k{k}.npy", p)
    json.dump(result, open(f"{a.out}/metrics.json", "w"), indent=1)
    print(json.dumps(result, indent=1))


def compare(want, got):
    expected = json.load(open(f"{want}/metrics.json"))
    test = json.load(open(f"{got}/metrics.json"))["metrics"]["test"]
    worst = 0.0
    for name, value in expected.items():
        ours = test[name]["mean"]
        worst = max(worst, abs(ours - value))
        print(f"{name:16} reference {value:.6f}  ours {ours:.6f}  difference {ours - value:+.2e}")
    for f in sorted(os.listdir(want)):
        if f.endswith(".npy"):
            p = np.load(f"{want}/{f}")
            rows = list(csv.reader(open(f"{got}/{f[:-4]}.csv")))[1:]
            q = np.array([[float(v) for v in r[2:]] for r in rows])
            off = np.abs(p - q).max(axis=1)
            print(f"{f:24} largest probability difference {off.max():.2e}, median {np.median(off):.2e}")
    return worst


if __name__ == "__main__":
    if sys.argv[1] == "--compare":
        sys.exit(compare(sys.argv[2], sys.argv[3]) > 0.002)
    p = argparse.ArgumentParser()
    p.add_argument("root"), p.add_argument("weights"), p.add_argument("out")
    p.add_argument("--k", type=lambda s: [int(v) for v in s.split(",")], default=[1, 5, 20])
    p.add_argument("--image-size", type=int, default=56)
    p.add_argument("--paper", action="store_true")
    reference(p.parse_args())
