"""Checkpoints: a full one on the local disk, and a compact one in pieces of at most 15 MiB that can travel.

The compact form holds the weights in bf16, high and low bytes apart (the high
bytes compress), without optimizer state: training resumes from it with fresh momentum.
"""
import glob
import json
import os
import shutil
import zlib

import numpy as np
import torch

PIECE = 15 << 20


def save_full(path, model, optimizer_state, progress):
    write_full(path, model.state_dict(), optimizer_state, progress)


def write_full(path, state, optimizer_state, progress):
    torch.save({"model": state, "optimizer": optimizer_state, "progress": progress}, path + ".part")
    os.replace(path + ".part", path)


def save_compact(folder, model, progress):
    write_compact(folder, model.state_dict(), progress)


def write_compact(folder, state, progress):
    """The weights of a state dict as checkpoint.00, .01 ... in a new folder that then takes the old one's place: a reader finds all pieces of one or none."""
    names, planes = [], []
    for n, p in state.items():
        bits = p.detach().to(torch.bfloat16).view(torch.int16).cpu().numpy().ravel().view(np.uint16)
        names.append((n, list(p.shape)))
        planes.append(bits)
    bits = np.concatenate(planes)
    hi, lo = zlib.compress((bits >> 8).astype(np.uint8).tobytes(), 1), (bits & 255).astype(np.uint8).tobytes()
    head = json.dumps({"tensors": names, "hi": len(hi), "lo": len(lo), "progress": progress}).encode()
    blob = len(head).to_bytes(8, "little") + head + hi + lo
    part, old = folder + ".part", folder + ".old"
    for stale in (part, old):
        shutil.rmtree(stale, ignore_errors=True)
    os.makedirs(part)
    for i in range(0, len(blob), PIECE):
        with open(os.path.join(part, f"checkpoint.{i // PIECE:02d}"), "wb") as f:
            f.write(blob[i:i + PIECE])
    if os.path.isdir(folder):
        os.replace(folder, old)
    os.replace(part, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_compact(folder, model):
    blob = b"".join(open(p, "rb").read() for p in sorted(glob.glob(os.path.join(folder, "checkpoint.*"))))
    n = int.from_bytes(blob[:8], "little")
    head = json.loads(blob[8:8 + n])
    hi = np.frombuffer(zlib.decompress(blob[8 + n:8 + n + head["hi"]]), np.uint8).astype(np.uint16)
    lo = np.frombuffer(blob[8 + n + head["hi"]:], np.uint8)
    bits, at, state = (hi << 8 | lo).view(np.int16), 0, {}
    for name, shape in head["tensors"]:
        size = int(np.prod(shape))
        state[name] = torch.from_numpy(bits[at:at + size].copy()).view(torch.bfloat16).float().view(shape)
        at += size
    model.load_state_dict(state)
    return head["progress"]


def load(path, model):
    """A full checkpoint file or a compact one's folder: (optimizer state or None, progress)."""
    if os.path.isdir(path):
        return None, load_compact(path, model)
    d = torch.load(path, map_location="cpu")
    model.load_state_dict(d["model"])
    return d["optimizer"], d["progress"]
