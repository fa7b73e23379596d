"""TIFF, PNG and JPEG kinds that the golden cases lack: small files, `cases.json` and `expected.npz`.

    python make_images.py            # writes into its own folder

Made with numpy 2, tifffile 2026.3.3, imagecodecs 2026.3.6 and Pillow 13.0. Values are those that
went in (every kind is lossless); each TIFF is read back by tifffile, and by Pillow where it can.
An entry with `error` must be refused with a text that holds it.
"""

import io
import json
import pathlib

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

here = pathlib.Path(__file__).resolve().parent
rng = np.random.default_rng(20261123)
H, W = 37, 29


def pixels(dtype, *channels):
    """A ramp with noise that reaches both ends of the range; compresses a little."""
    top = np.iinfo(dtype).max
    ramp = np.linspace(0, 1, H * W).reshape(H, W) ** 1.5
    out = np.stack([ramp if n % 2 == 0 else ramp[::-1, ::-1] for n in range(channels[0] if channels else 1)], -1)
    out = out + rng.normal(0, 0.05, out.shape) * (np.arange(W) > W // 2)[None, :, None]
    out = np.clip(out * top, 0, top).astype(dtype)
    out[0, 0], out[-1, -1] = 0, top
    return out if channels else out[..., 0]


cases, expected = [], {}


def ok(name, want, bits, alpha=None):
    case = {"file": name, "bits": bits, "alpha": alpha is not None}
    expected[name] = want
    if alpha is not None:
        expected[name + ".alpha"] = alpha
    cases.append(case)


def refused(name, text):
    cases.append({"file": name, "error": text})


def tiff(name, array, want=None, bits=None, alpha=None, check=True, **options):
    path = here / name
    tifffile.imwrite(path, array, metadata=None, software=False, **options)
    if check:
        assert np.array_equal(tifffile.imread(path), array), name
    ok(name, array if want is None else want, bits or array.dtype.itemsize * 8, alpha)


gray8, gray16 = pixels(np.uint8), pixels(np.uint16)
rgb8, rgb16 = pixels(np.uint8, 3), pixels(np.uint16, 3)
rgba8, rgba16 = pixels(np.uint8, 4), pixels(np.uint16, 4)
for end, order in (("<", "le"), (">", "be")):
    for bits, gray, rgb, rgba in ((8, gray8, rgb8, rgba8), (16, gray16, rgb16, rgba16)):
        kind = dict(byteorder=end)
        tiff(f"gray{bits}_{order}.tif", gray, photometric="minisblack", rowsperstrip=8, **kind)
        tiff(f"rgb{bits}_{order}_deflate.tif", rgb, photometric="rgb", compression="zlib", rowsperstrip=16, **kind)
        tiff(f"rgba{bits}_{order}_lzw.tif", rgba, rgba[..., :3], alpha=rgba[..., 3], photometric="rgb",
             extrasamples=["unassalpha"], compression="lzw", **kind)
        tiff(f"gray{bits}_{order}_lzw_predictor.tif", gray, photometric="minisblack", compression="lzw", predictor=2, **kind)
        tiff(f"gray{bits}_{order}_tiles.tif", gray, photometric="minisblack", tile=(16, 16), compression="zlib", **kind)
    tiff(f"gray8_{order}_packbits.tif", gray8, photometric="minisblack", compression="packbits", byteorder=end)
tiff("rgb8_tiles_predictor.tif", rgb8, photometric="rgb", tile=(16, 32), compression="zlib", predictor=2)
tiff("rgb8_planes.tif", np.moveaxis(rgb8, -1, 0).copy(), rgb8, photometric="rgb", planarconfig="separate")
tiff("rgb16_planes_be.tif", np.moveaxis(rgb16, -1, 0).copy(), rgb16, photometric="rgb", planarconfig="separate", byteorder=">")
tiff("gray16_big.tif", gray16, photometric="minisblack", bigtiff=True)
alpha8 = pixels(np.uint8, 2)
tiff("gray_alpha8.tif", alpha8, alpha8[..., 0], alpha=alpha8[..., 1], photometric="minisblack",
     planarconfig="contig", extrasamples=["unassalpha"])

# stored 0 is white: the reader turns ink into light, as Pillow does
tifffile.imwrite(here / "white_is_zero8.tif", gray8, photometric="miniswhite", metadata=None, software=False)
ok("white_is_zero8.tif", 255 - gray8, 8)
assert np.array_equal(np.asarray(Image.open(here / "white_is_zero8.tif")), 255 - gray8)

bits1 = gray8 > 127
tifffile.imwrite(here / "gray1.tif", bits1, photometric="minisblack", metadata=None, software=False)
assert np.array_equal(tifffile.imread(here / "gray1.tif"), bits1)
ok("gray1.tif", bits1.astype(np.uint8), 1)

# palettes: colours of 8 bits are stored as multiples of 257 (or of 256), finer ones stay 16 bits
table8 = rng.integers(0, 256, (3, 256)).astype(np.uint16)
table16 = rng.integers(0, 65536, (3, 256)).astype(np.uint16)
for name, table, bits in (
    ("palette8_le.tif", table8 * 257, 8),
    ("palette8_x256_be.tif", table8 * 256, 8),
    ("palette8_fine.tif", table16, 16),
):
    end = ">" if "_be" in name else "<"
    tifffile.imwrite(here / name, gray8, photometric="palette", colormap=table, metadata=None, software=False, byteorder=end)
    colours = np.moveaxis(table8 if bits == 8 else table16, 0, -1)[gray8]
    if bits == 8:
        assert np.array_equal(np.asarray(Image.open(here / name).convert("RGB")), colours), name
        colours = colours.astype(np.uint8)
    ok(name, colours, bits)
tifffile.imwrite(here / "palette8_tiles.tif", gray8, photometric="palette", colormap=table8 * 257, tile=(16, 16),
                 compression="zlib", metadata=None, software=False)
ok("palette8_tiles.tif", np.moveaxis(table8, 0, -1)[gray8].astype(np.uint8), 8)

# what is no picture of 8 or 16 bits
tifffile.imwrite(here / "float32.tif", gray16.astype(np.float32), photometric="minisblack", metadata=None, software=False)
refused("float32.tif", "float")
tifffile.imwrite(here / "signed16.tif", gray16.astype(np.int16), photometric="minisblack", metadata=None, software=False)
refused("signed16.tif", "signed")
tifffile.imwrite(here / "cmyk8.tif", rgba8, photometric="separated", metadata=None, software=False)
refused("cmyk8.tif", "CMYK")
with tifffile.TiffWriter(here / "two_pages.tif") as out:
    for page in (gray8, gray8[::-1]):
        out.write(page, photometric="minisblack", metadata=None, software=False, contiguous=False)
refused("two_pages.tif", "pages")
# a small copy of the picture behind it is no second picture
with tifffile.TiffWriter(here / "thumbnail.tif") as out:
    out.write(gray8, photometric="minisblack", metadata=None, software=False)
    out.write(gray8[::4, ::4], photometric="minisblack", metadata=None, software=False, subfiletype=1)
ok("thumbnail.tif", gray8, 8)


def png(name, array, want, bits, alpha=None):
    (here / name).write_bytes(imagecodecs.png_encode(array))
    assert np.array_equal(imagecodecs.png_decode((here / name).read_bytes()), array), name
    ok(name, want, bits, alpha)


alpha16 = pixels(np.uint16, 2)
png("gray_alpha16.png", alpha16, alpha16[..., 0], 16, alpha16[..., 1])
png("rgba16.png", rgba16, rgba16[..., :3], 16, rgba16[..., 3])
png("rgb16.png", rgb16, rgb16, 16)
# the transparency of a palette and of a key colour is a display hint: colours only
image = Image.fromarray(gray8 // 16).convert("P")
image = Image.frombytes("P", (W, H), (gray8 // 16).tobytes())
image.putpalette(table8[:, :16].T.astype(np.uint8).tobytes())
image.save(here / "palette_alpha.png", transparency=bytes(range(0, 256, 16)), bits=4)
ok("palette_alpha.png", np.moveaxis(table8, 0, -1)[gray8 // 16].astype(np.uint8), 8)
Image.fromarray(gray8).save(here / "gray8_key.png", transparency=int(gray8[5, 5]))
ok("gray8_key.png", gray8, 8)

for name, mode in (("cmyk.jpg", "CMYK"),):
    Image.fromarray(rgb8).convert(mode).save(here / name, quality=90)
    refused(name, "CMYK")

np.savez_compressed(here / "expected.npz", **expected)
text = io.StringIO()
json.dump({"cases": cases}, text, indent=1)
(here / "cases.json").write_text(text.getvalue() + "\n")
print(len(cases), "cases")
