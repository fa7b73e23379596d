"""Random scores and what independent implementations make of them.

AUROC, average precision, log loss, kappa, MCC: scikit-learn. DeLong: the definition of DeLong et al.
(1988) by structural components, written out as the double loop over pairs (no ranks), so that it shares
nothing with the midrank algorithm of the crate; normal tail and quantile from scipy. Distance
transform: scipy.ndimage. Run: python make.py > expected.json
"""
import json

import numpy as np
from scipy import ndimage, stats
from sklearn import metrics

rng = np.random.default_rng(20231204)


def components(s, y):
    x, n = s[y == 1], s[y == 0]
    psi = (x[:, None] > n[None]) + 0.5 * (x[:, None] == n[None])
    return psi.mean(), psi.mean(1), psi.mean(0)


def delong(scores, y):
    parts = [components(s, y) for s in scores]
    v10 = np.atleast_2d(np.cov([p[1] for p in parts])) / (y == 1).sum()
    v01 = np.atleast_2d(np.cov([p[2] for p in parts])) / (y == 0).sum()
    return [p[0] for p in parts], v10 + v01


cases = []
for n, rate, decimals in [(50, 0.3, None), (400, 0.08, 2), (1500, 0.5, 1), (12, 0.5, None), (3000, 0.02, 3)]:
    y = (rng.random(n) < rate).astype(int)
    y[:4] = [0, 0, 1, 1]
    a = rng.random(n) + 0.5 * y
    b = 0.5 * a + 0.7 * rng.random(n)
    if decimals is not None:
        a, b = a.round(decimals), b.round(decimals)
    aucs, cov = delong([a, b], y)
    diff, se = aucs[0] - aucs[1], np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
    p = 1 / (1 + np.exp(-(3 * a - 2)))
    cases.append({
        "a": a.tolist(), "b": b.tolist(), "targets": y.tolist(),
        "auroc": metrics.roc_auc_score(y, a), "average_precision": metrics.average_precision_score(y, a),
        "log_loss": metrics.log_loss(y, p), "brier": metrics.brier_score_loss(y, p),
        "mcc": metrics.matthews_corrcoef(y, a > 0.8), "kappa": metrics.cohen_kappa_score(y, a > 0.8),
        "variance": cov[0, 0], "interval": [max(0, aucs[0] - stats.norm.ppf(0.975) * np.sqrt(cov[0, 0])),
                                            min(1, aucs[0] + stats.norm.ppf(0.975) * np.sqrt(cov[0, 0]))],
        "difference": diff, "standard_error": se, "p_value": 2 * stats.norm.sf(abs(diff / se)),
    })

k = 5
t, q = rng.integers(0, k, 300), None
q = np.where(rng.random(300) < 0.6, t, rng.integers(0, k, 300))
classes = {
    "targets": t.tolist(), "predictions": q.tolist(), "classes": k, "mcc": metrics.matthews_corrcoef(t, q),
    "kappa": metrics.cohen_kappa_score(t, q), "kappa_linear": metrics.cohen_kappa_score(t, q, weights="linear"),
    "kappa_quadratic": metrics.cohen_kappa_score(t, q, weights="quadratic"),
    "f1_macro": metrics.f1_score(t, q, average="macro"), "recall_macro": metrics.recall_score(t, q, average="macro"),
    "precision_macro": metrics.precision_score(t, q, average="macro"),
}

probabilities = rng.dirichlet(np.ones(k), 300).round(2)
probabilities /= probabilities.sum(1, keepdims=True)
onehot = np.eye(k, dtype=int)[t]
classes["probabilities"] = probabilities.ravel().tolist()
classes["auroc_micro"] = metrics.roc_auc_score(onehot, probabilities, average="micro")
classes["auroc_macro"] = metrics.roc_auc_score(onehot, probabilities, average="macro")
classes["auroc_weighted"] = metrics.roc_auc_score(onehot, probabilities, average="weighted")
classes["average_precision_macro"] = metrics.average_precision_score(onehot, probabilities, average="macro")
classes["support"] = onehot.sum(0).tolist()

mask = rng.random((7, 11, 9)) < 0.03
spacing = [2.5, 0.7, 0.9]
edt = ndimage.distance_transform_edt(~mask, sampling=spacing)
transform = {"mask": mask.astype(int).ravel().tolist(), "shape": list(mask.shape), "spacing": spacing,
             "distance": edt.ravel().tolist()}
print(json.dumps({"binary": cases, "classes": classes, "transform": transform}))
