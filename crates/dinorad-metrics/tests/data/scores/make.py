"""Predictions of made-up runs, and what independent implementations make of them.

Points: scikit-learn's metrics on one column at a time. DeLong: the definition of DeLong et al. (1988) as
a double loop over pairs, the tail from scipy; checked here against the package `confidenceinterval`.
Calibration: binned by hand with numpy. Newcombe (2006), method 5: his equation solved by scipy's brentq.
Wilson: statsmodels. Bootstrap: 20 batches of 5,000 draws of patients (or cases) in numpy; an interval's
end is that of all 100,000, and its Monte Carlo error is the standard deviation over the batches, that of
a run of 5,000 draws, or more where the score takes few values and its quantile jumps (`jump`).
Permutation: every swap of groups is tried, so the p-value is exact. Masks: counted by numpy per class,
then as the definitions say.

Undefined is null. Nothing here imports or reads this crate.

    pip install numpy scipy scikit-learn statsmodels confidenceinterval
    python make.py        # writes <case>.json beside itself
"""

import itertools
import json
import pathlib

import numpy as np
from confidenceinterval.delong import delong_roc_variance
from scipy import optimize, stats
from sklearn import metrics
from statsmodels.stats.proportion import proportion_confint

HERE = pathlib.Path(__file__).parent
BATCHES, DRAWS, LEVEL = 20, 5000, 0.95
BINS = 15


# ------------------------------------------------------------------ points

def columns(case):
    """Score and 0/1 truth of class 1 of two, or of every class or finding."""
    p, y = case["p"], case["y"]
    if case["task"] == "multilabel":
        return [(p[:, c], y[:, c]) for c in range(p.shape[1])]
    first = 1 if p.shape[1] == 2 else 0
    return [(p[:, c], (y == c).astype(int)) for c in range(first, p.shape[1])]


def occurs(t):
    return 0 < t.sum() < len(t)


def mean_of(values):
    return float(np.mean(values)) if values else None


def called(case):
    """Whether each column is called: the most probable class (the first of equals), a finding above 0.5."""
    p = case["p"]
    if case["task"] == "multilabel":
        return [(p[:, c] > 0.5).astype(int) for c in range(p.shape[1])]
    best = p.argmax(1)
    first = 1 if p.shape[1] == 2 else 0
    return [(best == c).astype(int) for c in range(first, p.shape[1])]


def bin_of(confidence):
    edges = np.linspace(0, 1, BINS + 1, dtype=np.float32).astype(float)
    return np.searchsorted(edges, confidence, side="right") - 1


def ece(confidence, hit):
    total = 0.0
    bins = bin_of(confidence)
    for b in np.unique(bins):
        here = bins == b
        total += here.mean() * abs(hit[here].mean() - confidence[here].mean())
    return float(total)


def points(case):
    p, y, task = case["p"], case["y"], case["task"]
    cols, calls = columns(case), called(case)
    there = [i for i, (_, t) in enumerate(cols) if occurs(t)]
    over = lambda f: mean_of([f(i) for i in there])
    out = {
        "auroc": over(lambda i: metrics.roc_auc_score(cols[i][1], cols[i][0])),
        "average_precision": over(lambda i: metrics.average_precision_score(cols[i][1], cols[i][0])),
        "sensitivity": over(lambda i: metrics.recall_score(cols[i][1], calls[i])),
        "specificity": over(lambda i: metrics.recall_score(cols[i][1], calls[i], pos_label=0)),
        "f1": over(lambda i: metrics.f1_score(cols[i][1], calls[i])),
    }
    if task == "multilabel":
        out["accuracy"] = float(np.mean([metrics.accuracy_score(t, c) for (_, t), c in zip(cols, calls)]))
        out["brier"] = float(np.mean([metrics.brier_score_loss(t, s, pos_label=1) for s, t in cols]))
        out["ece"] = ece(p.ravel(), y.ravel())
        out["positives"] = y.sum(0).tolist()
        out["majority_accuracy"] = float(np.mean(np.maximum(y.mean(0), 1 - y.mean(0))))
    else:
        best = p.argmax(1)
        out["accuracy"] = metrics.accuracy_score(y, best)
        kappa = metrics.cohen_kappa_score(y, best, labels=list(range(p.shape[1])))
        out["kappa"] = None if np.isnan(kappa) else float(kappa)
        if task == "binary":
            out["brier"] = float(metrics.brier_score_loss(y, p[:, 1], pos_label=1))
            out["balanced_accuracy"] = metrics.balanced_accuracy_score(y, best) if there else None
            out["ece"] = ece(p[:, 1], (y == 1).astype(float))
        else:
            onehot = np.eye(p.shape[1])[y]
            out["brier"] = float(((p - onehot) ** 2).sum(1).mean())
            # scikit-learn leaves out classes that never occur, as we do
            out["balanced_accuracy"] = metrics.recall_score(y, best, labels=np.unique(y), average="macro")
            out["ece"] = ece(p.max(1), (best == y).astype(float))
        out["positives"] = np.bincount(y, minlength=p.shape[1]).tolist()
        out["majority_accuracy"] = float(np.bincount(y).max() / len(y))
    by = lambda f: [float(f(t, s)) if occurs(t) else None for s, t in cols]
    out["auroc_by_class"] = by(metrics.roc_auc_score)
    out["average_precision_by_class"] = by(metrics.average_precision_score)
    if task == "binary":
        out["absent"] = [c for c in range(2) if (y == c).sum() == 0]
    else:
        out["absent"] = [i for i, (_, t) in enumerate(cols) if not occurs(t)]
    out["constant"] = bool((p == p[0]).all())
    return out


# --------------------------------------------------------------- bootstrap

def weighted_auroc(w, s, t):
    pairs = (s[t == 1][:, None] > s[t == 0][None]) + 0.5 * (s[t == 1][:, None] == s[t == 0][None])
    wp, wn = w[:, t == 1], w[:, t == 0]
    with np.errstate(invalid="ignore"):
        return ((wp @ pairs) * wn).sum(1) / (wp.sum(1) * wn.sum(1))


def weighted_ap(w, s, t):
    order = np.argsort(-s, kind="stable")
    s, t, w = s[order], t[order], w[:, order]
    tp, fp = np.cumsum(w * t, 1), np.cumsum(w * (1 - t), 1)
    ends = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)
    tp, fp = tp[:, ends], fp[:, ends]
    gain = np.diff(np.concatenate([np.zeros((len(w), 1)), tp], 1), axis=1)
    with np.errstate(invalid="ignore"):
        precision = np.where(gain > 0, tp / (tp + fp), 0.0)
        return (gain * precision).sum(1) / tp[:, -1]


def weighted_ece(w, confidence, hit):
    """The sum over bins of |weighted hits - weighted confidences|, over all weight."""
    bins = bin_of(confidence)
    apart = w * (np.asarray(hit, float) - confidence)
    return sum(np.abs(apart[:, bins == b].sum(1)) for b in np.unique(bins)) / w.sum(1)


def ratio(a, b):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(b > 0, a / b, np.nan)


def drawn(case, w):
    """Every score with an interval for each row of weights; NaN where undefined."""
    cols, calls, task = columns(case), called(case), case["task"]
    there = [i for i, (_, t) in enumerate(cols) if occurs(t)]
    over = lambda f: np.mean([f(i) for i in there], axis=0) if there else np.full(len(w), np.nan)
    tp = [w @ (t * c) for (_, t), c in zip(cols, calls)]
    fp = [w @ ((1 - t) * c) for (_, t), c in zip(cols, calls)]
    fn = [w @ (t * (1 - c)) for (_, t), c in zip(cols, calls)]
    tn = [w @ ((1 - t) * (1 - c)) for (_, t), c in zip(cols, calls)]
    n = w.sum(1)
    areas = [weighted_auroc(w, s, t) if occurs(t) else np.full(len(w), np.nan) for s, t in cols]
    out = {
        "auroc": over(lambda i: areas[i]),
        "average_precision": over(lambda i: weighted_ap(w, *cols[i])),
        "sensitivity": over(lambda i: ratio(tp[i], tp[i] + fn[i])),
        "specificity": over(lambda i: ratio(tn[i], tn[i] + fp[i])),
        "f1": over(lambda i: ratio(2 * tp[i], 2 * tp[i] + fp[i] + fn[i])),
    }
    if task == "multilabel":
        out["accuracy"] = sum(a + b for a, b in zip(tp, tn)) / n / len(cols)
        out["brier"] = w @ ((case["p"] - case["y"]) ** 2).mean(1) / n
    else:
        y, best, k = case["y"], case["p"].argmax(1), case["p"].shape[1]
        out["accuracy"] = w @ (y == best) / n
        truth, call = w @ np.eye(k)[y], w @ np.eye(k)[best]
        chance = (truth * call).sum(1) / n**2
        with np.errstate(invalid="ignore", divide="ignore"):
            out["kappa"] = np.where(chance < 1, (out["accuracy"] - chance) / (1 - chance), np.nan)
        if task == "binary":
            out["brier"] = w @ (case["p"][:, 1] - y) ** 2 / n
            out["balanced_accuracy"] = (out["sensitivity"] + out["specificity"]) / 2
        else:
            out["brier"] = w @ ((case["p"] - np.eye(k)[y]) ** 2).sum(1) / n
            out["balanced_accuracy"] = out["sensitivity"]
    if task == "multilabel":
        out["ece"] = weighted_ece(np.repeat(w, len(cols), 1), case["p"].ravel(), case["y"].ravel())
    elif task == "binary":
        out["ece"] = weighted_ece(w, case["p"][:, 1], case["y"])
    else:
        out["ece"] = weighted_ece(w, case["p"].max(1), case["p"].argmax(1) == case["y"])
    if len(cols) > 1:
        out |= {f"auroc_class_{i}": a for i, a in enumerate(areas)}
        out |= {
            f"average_precision_class_{i}": weighted_ap(w, s, t) if occurs(t) else np.full(len(w), np.nan)
            for i, (s, t) in enumerate(cols)
        }
    return out


def group_of(case):
    keys = case.get("patients") or list(range(len(case["y"])))
    names = {k: i for i, k in enumerate(dict.fromkeys(keys))}
    return np.array([names[k] for k in keys])


def batches(case, rng, values):
    """`values(weights)` on every batch of draws of groups."""
    group = group_of(case)
    g = group.max() + 1
    for _ in range(BATCHES):
        yield values(rng.multinomial(g, np.full(g, 1 / g), DRAWS)[:, group].astype(float))


def jump(values, tail):
    """A sixth of how far an end moves where a run's share of draws below it is six standard errors off. A score
    of few values jumps there, though the ends of 20 batches may all be equal."""
    p = tail / 100
    off = 600 * np.sqrt(p * (1 - p) / DRAWS)
    around = np.percentile(values, np.clip([tail - off, tail + off], 0, 100))
    return np.abs(around - np.percentile(values, tail)).max() / 6


def interval(per_batch):
    """Ends and spread over all draws, and what a run of one batch's draws may be off."""
    tails = [50 * (1 - LEVEL), 100 - 50 * (1 - LEVEL)]
    known = [b[~np.isnan(b)] for b in per_batch]
    if not all(len(b) for b in known):
        return None
    ends = np.array([np.percentile(b, tails) for b in known])
    spread = np.array([b.std(ddof=1) for b in known])
    all_of = np.concatenate(known)
    low, high = np.percentile(all_of, tails)
    share = 1 - len(all_of) / (BATCHES * DRAWS)
    return {
        "low": low, "low_error": max(ends[:, 0].std(ddof=1), jump(all_of, tails[0])),
        "high": high, "high_error": max(ends[:, 1].std(ddof=1), jump(all_of, tails[1])),
        "standard_error": all_of.std(ddof=1), "standard_error_error": spread.std(ddof=1),
        "undefined": share, "undefined_error": np.sqrt(share * (1 - share) / DRAWS),
    }


def newcombe(auc, m, n, level=LEVEL):
    """Newcombe 2006 part 2, method 5: Hanley and McNeil's variance with the mean sample size in both
    terms, at the limit itself rather than at the estimate."""
    z, star = stats.norm.ppf(0.5 + level / 2), (m + n) / 2 - 1
    variance = lambda a: a * (1 - a) * (1 + star * (1 - a) / (2 - a) + star * a / (1 + a)) / (m * n)
    off = lambda a: (a - auc) ** 2 - z**2 * variance(a)
    low = 0.0 if auc == 0 else optimize.brentq(off, 1e-15, auc - (1e-15 if auc == 1 else 0), xtol=1e-15)
    high = 1.0 if auc == 1 else optimize.brentq(off, auc + (1e-15 if auc == 0 else 0), 1 - 1e-15, xtol=1e-15)
    return low, high


def units(case, t):
    """Patients (or cases) with a positive and with a negative case."""
    group = group_of(case)
    return len(set(group[t == 1])), len(set(group[t == 0]))


def wilson(case, out):
    """Wilson's interval of every score that is a share, on the patients (or cases) that it is of; for a mean over
    classes or findings that occur, the mean of the ends."""
    ends = lambda share, n: proportion_confint(share * n, n, alpha=1 - LEVEL, method="wilson")
    sides = {"sensitivity": [], "specificity": []}
    for (_, t), c in zip(columns(case), called(case)):
        if occurs(t):
            positives, negatives = units(case, t)
            sides["sensitivity"].append(ends(c[t == 1].mean(), positives))
            sides["specificity"].append(ends(1 - c[t == 0].mean(), negatives))
    found = {name: [float(v) for v in np.mean(pairs, 0)] for name, pairs in sides.items() if pairs}
    if case["task"] == "binary" and found:
        found["balanced_accuracy"] = [float(np.mean(v)) for v in zip(found["sensitivity"], found["specificity"])]
    elif case["task"] == "multiclass" and found:
        found["balanced_accuracy"] = found["sensitivity"]
    return found | {"accuracy": [float(v) for v in ends(out["accuracy"], len(set(group_of(case))))]}


def judged(case, rng):
    out = points(case)
    collected = {}
    for batch in batches(case, rng, lambda w: drawn(case, w)):
        for name, values in batch.items():
            collected.setdefault(name, []).append(values)
    out["intervals"] = {name: interval(per_batch) for name, per_batch in collected.items()}
    # a curve whose draws are all equal: Newcombe's interval instead
    sides = [units(case, t) if occurs(t) else None for _, t in columns(case)]
    out["newcombe_by_class"] = [
        None if s is None else newcombe(a, *s) for a, s in zip(out["auroc_by_class"], sides)
    ]
    # a share whose draws are all equal: Wilson's
    out["wilson"] = wilson(case, out)
    return out


# -------------------------------------------------------------- two models

def components(s, y):
    x, n = s[y == 1], s[y == 0]
    psi = (x[:, None] > n[None]) + 0.5 * (x[:, None] == n[None])
    return psi.mean(), psi.mean(1), psi.mean(0)


def delong(a, b, y):
    parts = [components(s, y) for s in (a, b)]
    cov = np.cov([p[1] for p in parts]) / (y == 1).sum() + np.cov([p[2] for p in parts]) / (y == 0).sum()
    diff, var = parts[0][0] - parts[1][0], cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]
    se, z = np.sqrt(max(var, 0)), stats.norm.ppf(0.5 + LEVEL / 2)
    out = {"method": "DeLong", "difference": diff, "low": diff - z * se, "high": diff + z * se, "error": 1e-9,
           "p_value": 2 * stats.norm.sf(abs(diff) / se) if se > 0 else None, "p_error": 1e-9}
    for scores, part, variance in zip((a, b), parts, np.diag(cov)):
        value, theirs = delong_roc_variance(y, scores)  # f32 inside
        assert abs(value - part[0]) < 1e-5 and abs(theirs - variance) < 1e-6
    return out


def paired(a, b, rng):
    """Both models on the same draws."""
    apart = lambda w: drawn(a, w)["auroc"] - drawn(b, w)["auroc"]
    found = list(batches(a, rng, apart))
    two_sided = lambda d: min(1.0, 2 * min((1 + (d <= 0).sum()) / (1 + len(d)), (1 + (d >= 0).sum()) / (1 + len(d))))
    ps = [two_sided(b[~np.isnan(b)]) for b in found]
    i = interval(found)
    return {"method": "paired bootstrap", "difference": points(a)["auroc"] - points(b)["auroc"], "low": i["low"],
            "high": i["high"], "error": max(i["low_error"], i["high_error"]), "p_value": float(np.mean(ps)),
            "p_error": float(np.std(ps, ddof=1))}


def exact_permutation(a, b, y, group):
    """Every way to swap the two models' answers group by group."""
    area = lambda s: metrics.roc_auc_score(y, s)
    found = {"auroc": [], "mean": []}
    for swap in itertools.product([False, True], repeat=group.max() + 1):
        s = np.array(swap)[group]
        one, two = np.where(s, b, a), np.where(s, a, b)
        found["auroc"].append(area(one) - area(two))
        found["mean"].append((one - two).mean())
    out = {}
    for name, d in found.items():
        d = np.array(d)
        out[name] = {"difference": d[0], "p_value": float((np.abs(d) >= abs(d[0]) - 1e-12).mean())}
    return out


# ------------------------------------------------------------------- cases

def f32(p):
    """Four decimals, as f32 holds them: what is written is what was used."""
    return np.round(p, 4).astype(np.float32).astype(float)


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def two(p1):
    p1 = f32(p1)
    return np.stack([f32(1 - p1), p1], 1)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def make():
    rng = np.random.default_rng(20260714)
    cases = {}

    def patients(n, per):
        return [f"p{i // per:03d}" for i in range(n)]

    # images of a patient share the truth and most of the error
    def binary_grouped(n, per, signal):
        g = np.arange(n) // per
        y = (rng.random(g.max() + 1) < 0.4).astype(int)[g]
        z = signal * (y - 0.4) + rng.normal(0, 1, g.max() + 1)[g] + 0.3 * rng.normal(0, 1, n)
        return y, z

    y, z = binary_grouped(144, 4, 1.4)
    cases["binary_patients"] = {"task": "binary", "p": two(sigmoid(z)), "y": y, "patients": patients(144, 4)}
    cases["binary_patients"]["other"] = two(sigmoid(0.6 * z + rng.normal(0, 1.2, 36)[np.arange(144) // 4]))
    y = (rng.random(150) < 0.07).astype(int)
    z = rng.normal(0, 1, 150) + 1.3 * y - 1
    cases["binary_imbalanced"] = {"task": "binary", "p": two(sigmoid(z)), "y": y,
                                  "other": two(sigmoid(0.5 * z + rng.normal(0, 1, 150)))}
    y = (rng.random(90) < 0.5).astype(int)
    p = np.clip((0.45 * y + rng.random(90) * 0.7).round(1), 0, 1)
    cases["binary_tied"] = {"task": "binary", "p": two(p), "y": y, "other": two(np.clip((p * 0.5 + rng.random(90) * 0.5).round(1), 0, 1))}
    cases["binary_one_class"] = {"task": "binary", "p": two(rng.random(30)), "y": np.ones(30, int)}
    y = np.repeat([0, 1], [26, 14])
    cases["binary_perfect"] = {"task": "binary", "p": two(0.3 * rng.random(40) + 0.6 * y), "y": y,
                               "other": two(np.full(40, 0.25))}
    y = np.repeat([0, 1], [12, 12])
    cases["binary_perfect_patients"] = {"task": "binary", "p": two(0.3 * rng.random(24) + 0.6 * y), "y": y,
                                        "patients": patients(24, 3)}
    cases["binary_constant"] = {"task": "binary", "p": two(np.full(50, 0.3)), "y": (np.arange(50) % 5 == 0).astype(int)}

    def multiclass(n, k, present, per=None, decimals=4):
        g = np.arange(n) // (per or 1)
        y = rng.choice(present, g.max() + 1)[g]
        z = rng.normal(0, 0.9, (g.max() + 1, k))[g] + 0.5 * rng.normal(0, 1, (n, k)) + 1.1 * np.eye(k)[y]
        return {"task": "multiclass", "p": f32(softmax(z).round(decimals)), "y": y,
                "other": f32(softmax(0.6 * z + rng.normal(0, 0.9, (n, k))).round(decimals))} | (
                    {"patients": patients(n, per)} if per else {})

    cases["multiclass_patients"] = multiclass(150, 4, [0, 1, 2, 3], per=3)
    cases["multiclass_absent"] = multiclass(80, 4, [0, 1, 3])
    cases["multiclass_tied"] = multiclass(90, 3, [0, 1, 2], decimals=1)

    def multilabel(n, rates, per=None, decimals=4):
        g = np.arange(n) // (per or 1)
        k = len(rates)
        y = (rng.random((g.max() + 1, k)) < rates)[g].astype(int)
        z = rng.normal(0, 1, (g.max() + 1, k))[g] + 0.4 * rng.normal(0, 1, (n, k)) + 1.2 * y - 0.6
        return {"task": "multilabel", "p": f32(sigmoid(z).round(decimals)), "y": y,
                "other": f32(sigmoid(0.7 * z + rng.normal(0, 0.9, (n, k))).round(decimals))} | (
                    {"patients": patients(n, per)} if per else {})

    cases["multilabel_patients"] = multilabel(144, [0.5, 0.3, 0.4, 0.25], per=3)
    cases["multilabel_absent"] = multilabel(70, [0.0, 1.0, 0.4, 0.3])
    cases["multilabel_tied"] = multilabel(80, [0.4, 0.5, 0.3], decimals=1)
    perfect = multilabel(40, [0.4, 0.3])
    perfect["p"] = f32(0.55 * perfect["y"] + 0.4 * rng.random((40, 2)))
    cases["multilabel_perfect"] = perfect
    rare = multilabel(56, [0.5] * 14)
    rare["y"] = np.zeros((56, 14), int)
    for c in range(14):
        rare["y"][[2 * c, 2 * c + 28], c] = 1
    cases["multilabel_rare"] = rare

    for name, case in cases.items():
        assert name != "binary_tied" or (case["p"][:, 1] == 0.5).any()
        out = {"task": case["task"], "draws": DRAWS, "level": LEVEL}
        out["probabilities"] = [[round(float(v), 4) for v in row] for row in case["p"]]
        out["targets"] = case["y"].tolist()
        out["patients"] = case.get("patients")
        out["expected"] = judged(case, rng)
        if "other" in case:
            other = case | {"p": case["other"]}
            out["other"] = [[round(float(v), 4) for v in row] for row in case["other"]]
            if case["task"] == "binary" and "patients" not in case:
                out["comparison"] = delong(case["p"][:, 1], case["other"][:, 1], case["y"])
            else:
                out["comparison"] = paired(case, other, rng)
        write(name, out)

    # two models that are swapped group by group, every swap tried
    group = np.repeat(np.arange(10), 4)
    y = (rng.random(10) < 0.5).astype(int)[group]
    y[:4], y[4:8] = 1, 0
    shared = rng.normal(0, 1, 10)[group]
    a = np.round(sigmoid(1.2 * (y - 0.5) + 0.5 * shared + 0.2 * rng.normal(0, 1, 40)), 4)
    b = np.round(sigmoid(0.3 * (y - 0.5) + rng.normal(0, 1, 10)[group] + 0.2 * rng.normal(0, 1, 40)), 4)
    write("permutation", {"a": a.tolist(), "b": b.tolist(), "targets": y.tolist(), "groups": group.tolist(),
                          "expected": exact_permutation(a, b, y, group)})
    write("masks", masks(rng))


def masks(rng):
    classes, size, slices = 4, 12, []
    for volume in range(7):
        for _ in range(3):
            truth = np.zeros((size, size), int)
            if volume != 6:  # the last one is empty
                for c in (1, 2) if volume % 2 else (1,):
                    y, x, h = rng.integers(0, 6, 2).tolist() + [int(rng.integers(3, 6))]
                    truth[y:y + h, x:x + h] = c
            predicted = np.roll(truth, rng.integers(-1, 2, 2), (0, 1))
            flip = (rng.random((size, size)) < 0.04) & (volume != 6)
            predicted = np.where(flip, rng.integers(0, 3, (size, size)), predicted)
            slices.append((f"v{volume}", predicted, truth))
    order = rng.permutation(len(slices))
    slices = [slices[i] for i in order]

    def overlap(of):
        dice, jaccard = [], []
        for c in range(classes):
            both = sum(((p == c) & (t == c)).sum() for p, t in of)
            a, b = sum((p == c).sum() for p, _ in of), sum((t == c).sum() for _, t in of)
            dice.append(2 * both / (a + b) if a + b else None)
            jaccard.append(both / (a + b - both) if a + b else None)
        return dice, jaccard

    foreground = lambda values: mean_of([v for v in values[1:] if v is not None])
    dice, jaccard = overlap([(p, t) for _, p, t in slices])
    volumes = {}
    for v, p, t in slices:
        volumes.setdefault(v, []).append((p, t))
    by_volume = {v: foreground(overlap(of)[0]) for v, of in sorted(volumes.items())}
    by_slice = [foreground(overlap([(p, t)])[0]) for _, p, t in slices]
    known = np.array([d for d in by_volume.values() if d is not None])
    draws = [known[rng.integers(0, len(known), (DRAWS, len(known)))].mean(1) for _ in range(BATCHES)]
    return {
        "task": "segmentation", "classes": classes, "size": size, "draws": DRAWS,
        "volumes": [v for v, _, _ in slices], "predicted": [p.ravel().tolist() for _, p, _ in slices],
        "truth": [t.ravel().tolist() for _, _, t in slices],
        "expected": {
            "dice": foreground(dice), "jaccard": foreground(jaccard), "dice_by_class": dice,
            "jaccard_by_class": jaccard, "dice_of_volumes": by_volume, "dice_by_volume": float(known.mean()),
            "dice_by_slice": mean_of([d for d in by_slice if d is not None]), "interval": interval(draws),
        },
    }


def plain(v):
    if isinstance(v, dict):
        return {k: plain(x) for k, x in v.items()}
    if isinstance(v, (list, tuple)):
        return [plain(x) for x in v]
    if isinstance(v, np.generic):
        return plain(v.item())
    if isinstance(v, float) and np.isnan(v):
        return None
    return v


def write(name, value):
    (HERE / f"{name}.json").write_text(json.dumps(plain(value)) + "\n")
    print(name)


if __name__ == "__main__":
    make()
