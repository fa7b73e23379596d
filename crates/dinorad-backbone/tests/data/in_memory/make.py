"""Checkpoints that hold no dictionary of tensors: a whole module, and a TorchScript program.

    pip install torch
    python make.py        # writes beside itself
"""

import pathlib

import torch

here = pathlib.Path(__file__).resolve().parent
torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.GELU())
torch.save(module, here / "module.pt")
torch.jit.save(torch.jit.script(module), here / "program.pt")
