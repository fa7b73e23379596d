"""The run folders in this folder, and `expected.json`: what scikit-learn and SciPy say of them.

    pip install numpy scipy scikit-learn
    python make_runs.py

Two encoders are judged on made-up chest X-rays: `2026-03-01-knn` and `2026-03-02-logreg`. The second has not
judged six of the first's test cases and has judged four others; one case has another truth in it. Nothing of
dinorad is used, so that readers are tested against another writer, and paired tests against other code:
DeLong's variance from placement values, the bootstrap by NumPy's generator, and for the permutation of answers
McNemar's exact test, which it is.
"""

import json
import pathlib
import struct
import zlib

import numpy as np
from scipy import stats
from sklearn import metrics

HERE = pathlib.Path(__file__).parent
SCHEMA = 2
CLASSES = ["normal", "pneumonia"]


def png(path, value):
    """A gray picture of 24 x 24 pixels."""
    y, x = np.mgrid[0:24, 0:24]
    rows = np.clip(((y - 12) ** 2 + (x - 9) ** 2 < value) * 150 + 40 + 4 * y, 0, 255).astype(np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 24, 24, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )


def scores(truth, p):
    """Scores with percentile bootstrap intervals over cases."""
    predicted = (p > 0.5).astype(int)
    of = {
        "auroc": lambda t, s, c: metrics.roc_auc_score(t, s),
        "accuracy": lambda t, s, c: metrics.accuracy_score(t, c),
        "average_precision": lambda t, s, c: metrics.average_precision_score(t, s),
        "sensitivity": lambda t, s, c: metrics.recall_score(t, c),
        "specificity": lambda t, s, c: metrics.recall_score(1 - t, 1 - c),
        "f1": lambda t, s, c: metrics.f1_score(t, c),
        "kappa": lambda t, s, c: metrics.cohen_kappa_score(t, c),
        "brier": lambda t, s, c: metrics.brier_score_loss(t, s),
    }
    rng = np.random.default_rng(7)
    draws = [rng.integers(0, len(truth), len(truth)) for _ in range(200)]
    out = {}
    for name, f in of.items():
        values = [f(truth[d], p[d], predicted[d]) for d in draws]
        value = float(f(truth, p, predicted))
        low, high = np.percentile(values, [2.5, 97.5])
        out[name] = {"mean": value, "values": [value], "ci95": [float(low), float(high)]}
    balanced = float(metrics.balanced_accuracy_score(truth, predicted))
    out["balanced_accuracy"] = {"mean": balanced, "values": [balanced]}
    return out


def several(values):
    return {"mean": float(np.mean(values)), "stdev": float(np.std(values, ddof=1)), "values": [float(v) for v in values]}


def counts(truth):
    positives = [int((truth == c).sum()) for c in range(2)]
    return {"n": len(truth), "positives": positives, "majority_accuracy": max(positives) / len(truth)}


def predictions(path, ids, truth, p):
    lines = ["sample_id,target,p_0,p_1"]
    for i, t, q in zip(ids, truth, p):
        q = np.float32(q)
        lines.append(f"{i},{t},{np.float32(1) - q},{q}")
    path.write_text("\n".join(lines) + "\n")


def write(name, config, numbers, exhibits, tables, pictures):
    folder = HERE / name
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(config)
    (folder / "metrics.json").write_text(json.dumps(numbers, indent=2) + "\n")
    (folder / "exhibits.json").write_text(json.dumps(exhibits, indent=2, ensure_ascii=False) + "\n")
    for table, rows in tables.items():
        predictions(folder / f"{table}.csv", *rows)
    for i in range(pictures):
        png(folder / f"pictures/{i + 1:04}.png", 30 + 12 * i)
    return folder


def mark(folder):
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("dinorad-run.json", "log.jsonl"):
            files[path.relative_to(folder).as_posix()] = path.stat().st_size
    marker = {"kind": "dinorad run", "schema": SCHEMA, "status": "finished", "files": files}
    (folder / "dinorad-run.json").write_text(json.dumps(marker, indent=2) + "\n")


rng = np.random.default_rng(20260301)
N = 160
ids = [f"chest/{i:04}.png" for i in range(N)]
truth = (rng.random(N) < 0.4).astype(int)
shared = rng.normal(size=N)


def model(strength, noise):
    z = strength * (truth - 0.4) + 0.8 * shared + noise * rng.normal(size=N)
    # the digits that a file keeps
    return (1 / (1 + np.exp(-z))).astype(np.float32).astype(float)


p_a, p_b = model(1.6, 1.0), model(1.9, 0.9)

# ---------------------------------------------------------------- the first run
ks = [1, 5, 20, 50]
search = []
for k in ks:
    q = model(0.5, 1.0 + abs(np.log(20 / k)))
    of = scores(truth, q) if k != 20 else scores(truth, p_a)
    val = float(metrics.roc_auc_score(truth[:60], (p_a if k == 20 else q)[:60]))
    search.append(
        {
            "label": f"k = {k}",
            "values": {"k": float(k)},
            "metrics": {
                "val": {"auroc": {"mean": val, "values": [val]}},
                "test": {name: of[name] for name in ("auroc", "accuracy")},
            },
            **({"chosen": True} if k == 20 else {}),
        }
    )
shots = []
for n, strength in [(1, 0.4), (4, 0.8), (16, 1.3)]:
    draws = [metrics.roc_auc_score(truth, model(strength, 1.0)) for _ in range(5)]
    right = [metrics.accuracy_score(truth, model(strength, 1.0) > 0.5) for _ in range(5)]
    shots.append({"x": float(n), "cases": 2.0 * n, "metrics": {"auroc": several(draws), "accuracy": several(right)}})
noise = []
for severity in range(4):
    of = scores(truth, p_a if severity == 0 else model(1.6 / (1 + severity), 1.0))
    noise.append({"x": float(severity), "metrics": {name: of[name] for name in ("auroc", "accuracy")}})
shuffled = [metrics.roc_auc_score(rng.permutation(truth), p_a) for _ in range(3)]
numbers_a = {
    "schema": SCHEMA,
    "setting": {"k": 20},
    "setting_label": "k = 20",
    "metrics": {
        "val": {"auroc": search[2]["metrics"]["val"]["auroc"]},
        "test": scores(truth, p_a),
        "test_shuffled_labels": {"auroc": several(shuffled), "accuracy": several([0.61, 0.58, 0.6])},
        "test_untrained_encoder": {name: scores(truth, model(0.5, 1.0))[name] for name in ("auroc", "accuracy")},
    },
    "cases": {"val": counts(truth[:60]), "test": counts(truth)},
    "not_judged": [{"split": "test", "id": "chest/0999.png", "reason": "no label"}],
    "task": {"kind": "binary", "class_names": CLASSES, "is_3d": False},
    "search": {
        "score": "auroc",
        "axis": {"value": "k", "label": "number of neighbours k", "plot": "auroc-by-k"},
        "settings": search,
    },
    "n_runs": 1,
    "convention": "strict; settings chosen on validation by AUROC, tested model trained on train; "
    "auroc: class 1 against 0, ties one half; ci95: percentile bootstrap over cases, 200 draws, seed 0",
    "model": "5b0f4c2d",
    "notices": ["one case of the test split is not judged"],
    "curves": {"shots": shots, "shift_noise": noise},
}


def case(i, picture, lines, judgement):
    return {
        "picture": {"file": f"pictures/{picture:04}.png", "width": 24, "alt": ids[i]},
        "id": ids[i],
        "judgement": judgement,
        "lines": lines,
    }


def cards(encoder, digest, width):
    return {
        "dataset": {
            "name": "Chest X-rays of the ward",
            "facts": [["task", "binary, 2d"], ["image size", "224 x 224 pixels for the encoder"]],
            "splits": ["train", "val", "test"],
            "classes": [{"name": "normal", "counts": [600, 36, 96]}, {"name": "pneumonia", "counts": [400, 24, 64]}],
        },
        "encoder": {
            "name": encoder,
            "training": "pretrained",
            "facts": [["patch size", "14 x 14"], ["embed dim", width], ["weights (BLAKE3)", digest]],
        },
    }


exhibits_a = {
    "schema": SCHEMA,
    "method": "kNN",
    **cards("facebook/dinov2-small", "1f0c9c2e77aa01b3", "384"),
    "shown": [
        {
            "cases": {
                "heading": "Test cases: the surest wrong and right answers",
                "cases": [
                    case(3, 1, [["predicted", "pneumonia (0.93)"], ["truth", "normal"]], "wrong"),
                    case(8, 2, [["predicted", "pneumonia (0.97)"], ["truth", "pneumonia"]], "right"),
                    case(9, 3, [["truth", "pneumonia"], ["cosine", "0.912"]], "open"),
                ],
            }
        },
        {
            "figures": {
                "heading": "Weights of slices",
                "figures": [
                    {
                        "drawn": {
                            "plot": "lines",
                            "axes": {
                                "x_label": "slice",
                                "y_label": "weight",
                                "x_scale": "linear",
                                "marks": "none",
                            },
                            "series": [{"name": ids[8], "points": [[0.0, 0.1], [1.0, 0.6], [2.0, 0.3]]}],
                        },
                        "caption": "What each slice of a scan weighed in its features.",
                    },
                    {
                        "picture": {"file": "pictures/0004.png", "width": 24, "alt": "slices"},
                        "caption": "The slices that weighed most.",
                        "wide": True,
                    },
                ],
            }
        },
        {"table": {"heading": "Acquisition", "columns": ["view", "cases"], "rows": [["PA", "131"], ["AP", "29"]]}},
        {"note": "Pixels were limited to their 5th and 95th percentile."},
    ],
    "failures": [{"id": "chest/0999.png", "reason": "not a PNG: wrong signature"}],
}
config_a = """\
schema = 1
protocol = "strict"
seed = 0
shifts = ["noise"]

[data]
name = "csv"
root = "../chest/table.csv"
splits_digest = "77b1c0de"

[encoder]
source = "facebook/dinov2-small"
digest = "1f0c9c2e77aa01b3"

[preprocessing]
image_size = 224

[method]
name = "knn"
k = [1, 5, 20, 50]

[intervals]
draws = 200

[made]
date = "2026-03-01T14:05:00Z"
command = "dinorad eval knn"
version = "0.2.0"
commit = "0123abc"
machine = "2 cores, x86-64"
threads = 2
seconds = 84.2
peak_memory_mb = 812.5
images = 1220

[[made.steps]]
name = "encoding"
seconds = 71.4

[[made.steps]]
name = "kNN and bootstrap"
seconds = 3.9
"""
tables = {"predictions": (ids, truth, p_a), "predictions-val": (ids[:60], truth[:60], p_a[:60])}
folder = write("2026-03-01-knn", config_a, numbers_a, exhibits_a, tables, 4)
patients = [f"{i}" for i in range(1, N + 1)]
rows = [f"{i},test,{n}" for i, n in zip(ids, patients)]
(folder / "cases.csv").write_text("sample_id,part,patient\n" + "\n".join(rows) + "\n")
(folder / "log.jsonl").write_text('{"event": "end"}\n')
mark(folder)

# ---------------------------------------------------------------- the second run
kept = list(range(6, N))
other_truth = 20
truth_b = truth.copy()
truth_b[other_truth] = 1 - truth_b[other_truth]
new = [f"chest/{i:04}.png" for i in range(N, N + 4)]
ids_b = [ids[i] for i in kept] + new
all_truth = np.concatenate([truth_b[kept], [0, 1, 0, 1]])
all_p = np.concatenate([p_b[kept], [0.25, 0.75, 0.5, 0.625]])
numbers_b = {
    "schema": SCHEMA,
    "setting": {"C": 0.01},
    "setting_label": "C = 1.0000e-2",
    "metrics": {"test": scores(all_truth, all_p)},
    "cases": {"test": counts(all_truth)},
    "task": {"kind": "binary", "class_names": CLASSES, "is_3d": False},
    "n_runs": 1,
    "convention": numbers_a["convention"],
}
config_b = (
    config_a.replace("facebook/dinov2-small", "microsoft/rad-dino")
    .replace("1f0c9c2e77aa01b3", "c0ffee0123456789")
    .replace('name = "knn"\nk = [1, 5, 20, 50]', 'name = "logreg"\nc = [0.01, 1.0]')
    .replace('shifts = ["noise"]\n', "")
    .replace("2026-03-01T14:05:00Z", "2026-03-02T09:30:00Z")
    .replace("dinorad eval knn", "dinorad eval logreg")
)
exhibits_b = {"schema": SCHEMA, "method": "logistic regression", **cards("microsoft/rad-dino", "c0ffee0123456789", "768")}
folder = write("2026-03-02-logreg", config_b, numbers_b, exhibits_b, {"predictions": (ids_b, all_truth, all_p)}, 0)
(folder / "pictures").rmdir()
mark(folder)


# ---------------------------------------------------------------- what others say of the pair
def placements(t, p):
    x, y = p[t == 1], p[t == 0]
    psi = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
    return psi.mean(1), psi.mean(0)


def f32(p):
    return p.astype(np.float32).astype(float)


common = [i for i in kept if i != other_truth]
t, a, b = truth[common], f32(p_a[common]), f32(p_b[common])
v_a, w_a = placements(t, a)
v_b, w_b = placements(t, b)
variance = np.var(v_a - v_b, ddof=1) / len(v_a) + np.var(w_a - w_b, ddof=1) / len(w_a)
difference = metrics.roc_auc_score(t, a) - metrics.roc_auc_score(t, b)
half = stats.norm.ppf(0.975) * np.sqrt(variance)
generator = np.random.default_rng(11)
resampled, right = [], []
hits_a, hits_b = (a > 0.5) == (t == 1), (b > 0.5) == (t == 1)
for _ in range(4000):
    d = generator.integers(0, len(t), len(t))
    resampled.append(metrics.roc_auc_score(t[d], a[d]) - metrics.roc_auc_score(t[d], b[d]))
    right.append(hits_a[d].mean() - hits_b[d].mean())
only_a, only_b = int((hits_a & ~hits_b).sum()), int((hits_b & ~hits_a).sum())
rank_a, rank_b = stats.rankdata(a), stats.rankdata(b)
swapped = []
observed = metrics.roc_auc_score(t, rank_a) - metrics.roc_auc_score(t, rank_b)
for _ in range(4000):
    s = generator.random(len(t)) < 0.5
    swapped.append(
        metrics.roc_auc_score(t, np.where(s, rank_b, rank_a)) - metrics.roc_auc_score(t, np.where(s, rank_a, rank_b))
    )
expected = {
    "cases": {"compared": len(common), "patients": len(common), "only_a": 6, "only_b": 4, "other_truth": 1, "no_truth": 0},
    "auroc": {
        "a": metrics.roc_auc_score(t, a),
        "b": metrics.roc_auc_score(t, b),
        "delong": {
            "difference": difference,
            "low": difference - half,
            "high": difference + half,
            "p_value": float(2 * stats.norm.sf(abs(difference) / np.sqrt(variance))),
        },
        "bootstrap": {"low": float(np.percentile(resampled, 2.5)), "high": float(np.percentile(resampled, 97.5))},
        "permutation": {
            "difference": observed,
            "p_value": float((1 + np.sum(np.abs(swapped) >= abs(observed) - 1e-12)) / (1 + len(swapped))),
        },
    },
    "accuracy": {
        "a": float(hits_a.mean()),
        "b": float(hits_b.mean()),
        "bootstrap": {"low": float(np.percentile(right, 2.5)), "high": float(np.percentile(right, 97.5))},
        "mcnemar": float(stats.binomtest(only_a, only_a + only_b).pvalue),
    },
}
(HERE / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")
print(json.dumps(expected, indent=2))
