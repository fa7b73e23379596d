"""Chest-like 16-bit PNGs of 1024 x 1024, about 1 MB each: `python loader_pictures.py 1000 FOLDER` (for loader_speed)."""
import sys, struct, zlib
import numpy as np

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

def png16(image):
    h, w = image.shape
    raw = image.astype(">u2").view(np.uint8).reshape(h, 2 * w).astype(np.int16)
    left = np.pad(raw, ((0, 0), (2, 0)))[:, :-2]
    up = np.pad(raw, ((1, 0), (0, 0)))[:-1]
    corner = np.pad(raw, ((1, 0), (2, 0)))[:-1, :-2]
    p = left + up - corner
    pa, pb, pc = abs(p - left), abs(p - up), abs(p - corner)
    paeth = np.where((pa <= pb) & (pa <= pc), left, np.where(pb <= pc, up, corner))
    options = [raw, raw - left, raw - up, raw - (left + up) // 2, raw - paeth]
    options = np.stack([(o % 256).astype(np.uint8) for o in options])
    cost = np.abs(options.view(np.int8).astype(np.int32)).sum(2)
    best = cost.argmin(0)
    rows = np.concatenate([best[:, None].astype(np.uint8), options[best, np.arange(h)]], 1)
    head = struct.pack(">IIBBBBB", w, h, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)) + chunk(b"IEND", b""), np.bincount(best, minlength=5)

n, out = int(sys.argv[1]), sys.argv[2]
y, x = np.mgrid[0:1024, 0:1024].astype(np.float32) / 1024
for i in range(n):
    rng = np.random.default_rng(i)
    a = rng.uniform(0.2, 1.5, (6, 2)).astype(np.float32); p = rng.uniform(0, 6.28, 6).astype(np.float32)
    img = sum(np.sin(a[k, 0] * 6.28 * x + a[k, 1] * 6.28 * y + p[k]) for k in range(6))
    img = 30000 + 1500 * img + rng.normal(0, 8, img.shape)
    data, used = png16(np.clip(img, 0, 65535).astype(np.uint16))
    if i == 0: print(len(data), used, flush=True)
    open(f"{out}/im_{i:04d}.png", "wb").write(data)
