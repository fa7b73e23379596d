"""The tasks of speed.rs in PyTorch, NumPy and scikit-multilearn, on the same machine.

    python speed.py sweep mlknn mlknn-whole

Needs torch, numpy and, for the class that the study used, scikit-learn and scikit-multilearn.
"""
import os
import sys
import time

import numpy as np
import torch


class Time:
    """Best time on the clock and of all threads; on a shared machine the second says more."""

    def __init__(self):
        self.wall = self.cpu = float("inf")

    def measure(self, function, repeats=1):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(repeats):
            function()
        self.wall = min(self.wall, (time.perf_counter() - wall) / repeats)
        self.cpu = min(self.cpu, (time.process_time() - cpu) / repeats)
        return self

    def __str__(self):
        return f"{self.wall:.4f} s ({self.cpu:.4f} s of CPU)"


def sweep(n=20_000, dim=1536, labels=14, batch=128, heads=64, steps=60):
    """64 nn.Linear modules trained on each shared batch, as the study does it."""
    torch.manual_seed(0)
    x = torch.rand(n, dim) * 2 - 1
    y = (torch.rand(n, labels) < 0.1).float()
    modules = torch.nn.ModuleList(torch.nn.Linear(dim, labels) for _ in range(heads))
    groups = [{"params": m.parameters(), "lr": 1e-4 * 1.1**i} for i, m in enumerate(modules)]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=0)
    bce = torch.nn.BCEWithLogitsLoss()

    def step():
        rows = torch.randint(0, n, (batch,))
        xb, yb = x[rows], y[rows]
        loss = sum(batch * bce(m(xb), yb) for m in modules)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()

    for _ in range(5):
        step()
    best = Time()
    for _ in range(3):
        best.measure(step, steps)
    print(f"{heads} nn.Linear: {best} a step")

    fused = torch.nn.Linear(dim, labels * heads)
    optimizer = torch.optim.SGD(fused.parameters(), lr=1e-3, momentum=0.9)

    def fused_step():
        rows = torch.randint(0, n, (batch,))
        xb, yb = x[rows], y[rows].repeat(1, heads)
        loss = batch * heads * bce(fused(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(5):
        fused_step()
    best = Time()
    for _ in range(3):
        best.measure(fused_step, steps)
    print(f"one fused nn.Linear: {best} a step")


def ml_knn_numpy(x, y, k=10, s=1.0):
    """ML-kNN of the study (a row among its own neighbours), vectorised over rows."""
    z = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    near = np.argpartition(-(z @ z.T), k - 1, axis=1)[:, :k]
    counts = y[near].sum(1)
    n, labels = y.shape
    prior = (s + y.sum(0)) / (2 * s + n)
    with_, without = np.zeros((labels, k + 1)), np.zeros((labels, k + 1))
    for label in range(labels):
        with_[label] = np.bincount(counts[y[:, label] == 1, label], minlength=k + 1)
        without[label] = np.bincount(counts[y[:, label] == 0, label], minlength=k + 1)
    with_ = (s + with_) / (s * (k + 1) + with_.sum(1, keepdims=True))
    without = (s + without) / (s * (k + 1) + without.sum(1, keepdims=True))
    return z, prior, with_, without


def ml_knn_data(n, dim=384, labels=14):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (n, dim)).astype(np.float32)
    return x, (rng.random((n, labels)) < 0.1).astype(np.int64)


def ml_knn(n=20_000):
    x, y = ml_knn_data(n)
    best = Time()
    for _ in range(2):
        best.measure(lambda: ml_knn_numpy(x, y))
    print(f"ML-kNN in NumPy, fit {n} rows: {best}")
    # a part that grows with the rows, and the search that grows with their square
    sizes = [1_000, 2_000, 4_000]
    times = [ml_knn_class(size, x, y) for size in sizes]
    powers = np.array([[size, size**2] for size in sizes], dtype=float)
    for name, at in ("fit", 0), ("predict_proba", 1):
        for unit in "wall", "cpu":
            seconds = np.array([getattr(time[at], unit) for time in times])
            (a, b), *_ = np.linalg.lstsq(powers / seconds[:, None], np.ones(len(sizes)), rcond=None)
            print(f"  {name} of {n}, extrapolated, {unit}: {a * n + b * n * n:.1f} s ({a * n:.1f} linear)")


def ml_knn_class(size, x, y):
    """Fit and prediction of scikit-multilearn's class, by cosine as the study has it."""
    from sklearn.neighbors import NearestNeighbors
    from skmultilearn.adapt import MLkNN
    import skmultilearn.adapt.mlknn as module

    # the released class passes k by position, which scikit-learn no longer takes, and knows one metric
    module.NearestNeighbors = lambda k: NearestNeighbors(n_neighbors=k, metric="cosine")
    head = MLkNN(k=10, s=1.0, ignore_first_neighbours=0)
    fit = Time().measure(lambda: head.fit(x[:size], y[:size]))
    predict = Time().measure(lambda: head.predict_proba(x[:size]))
    print(f"ML-kNN of scikit-multilearn, {size} rows: fit {fit}, predict_proba {predict}", flush=True)
    return fit, predict


def ml_knn_whole(n=20_000):
    ml_knn_class(n, *ml_knn_data(n))


if __name__ == "__main__":
    torch.set_num_threads(os.cpu_count() or 1)
    for task in sys.argv[1:]:
        {"sweep": sweep, "mlknn": ml_knn, "mlknn-whole": ml_knn_whole}[task]()
