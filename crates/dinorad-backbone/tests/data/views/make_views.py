"""Views of storages in every kind of PyTorch file, and what torch itself reads from them.

    python make_views.py            # torch 2.15.0, safetensors 0.8

Each file holds the same tensors: parts of a storage that begin late, that step over elements, that
are transposed, repeated or overlap, in several element types. `expected.safetensors` holds the
values as `torch.load` returns them, row by row, under dotted names.
"""

import pathlib
from collections import OrderedDict

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent


def tensors():
    gen = torch.Generator().manual_seed(11)
    base = torch.randn(60, generator=gen)
    other = torch.randn(5, 7, generator=gen)
    wide = torch.randn(30, generator=gen, dtype=torch.float64)
    state = OrderedDict()
    state["whole"] = base
    state["late"] = base[7:19].view(3, 4)
    state["stepped"] = base[:24].view(4, 6)[:, ::2]
    state["late_and_stepped"] = base[13:43].view(5, 6)[1:, 1::2]
    state["transposed"] = base[20:50].view(5, 6).t()
    state["permuted"] = base[11:47].view(2, 3, 6).permute(2, 0, 1)
    state["one"] = base[41]
    state["row_of_another"] = other[3]
    state["column_of_another"] = other[:, 2]
    state["another"] = other
    state["repeated"] = base[29:30].expand(3, 4)
    state["parameter"] = torch.nn.Parameter(base[33:45].view(4, 3))
    state["f64.late"] = wide[17:29].view(2, 6)
    state["f64.stepped"] = wide[1::3]
    state["f16.late"] = wide.half()[9:21].view(3, 4)
    state["bf16.late"] = wide.bfloat16()[5:25].view(4, 5)[:, 1:]
    state["i64.late"] = torch.arange(40)[31:37]
    state["u8.late"] = torch.arange(50, dtype=torch.uint8)[3::7]
    return state


def nested():
    """As training scripts save: dictionaries in dictionaries, beside things that are no tensors."""
    state = tensors()
    half = len(state) // 2
    items = list(state.items())
    return {
        "epoch": 3,
        "args": {"lr": 1e-3, "name": "run", "sizes": [1, 2, 3]},
        "model": {"backbone": OrderedDict(items[:half]), "head": dict(items[half:])},
        "best": None,
    }


def flat(value, name=""):
    if torch.is_tensor(value):
        yield name, value.detach().clone().contiguous()
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))


def main():
    for name, make in [("flat", tensors), ("nested", nested)]:
        for kind, zipped in [("zip", True), ("plain", False)]:
            path = HERE / f"{name}_{kind}.pth"
            torch.save(make(), path, _use_new_zipfile_serialization=zipped)
            again = dict(flat(torch.load(path, weights_only=True)))
            want = dict(flat(make()))
            assert again.keys() == want.keys() and all(torch.equal(again[k], want[k]) for k in want)
    # a newer pickle, as torch.save(pickle_protocol=4) writes
    torch.save(tensors(), HERE / "flat_zip_protocol4.pth", pickle_protocol=4)
    save_file(dict(flat(tensors())), HERE / "expected.safetensors")
    print(torch.__version__, *sorted(p.name for p in HERE.iterdir()))


main()
