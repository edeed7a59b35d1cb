"""Writes the shipped folder: config.json, generation_config.json and model.safetensors with block-scaled FP8 matrices.

    python3 export.py --model CHECKPOINT --out engine/nano [--bf16]

FP8 is e4m3 over blocks of 128x128 with an fp32 `weight_scale_inv` each, as in the release, and unlike it for the
tied embeddings too, two fifths of the bytes otherwise; weights_proj stays BF16, norms FP32. Works without the safetensors and
ml_dtypes libraries: rounding and file format are done here.
"""
import argparse
import json
import os
import struct

import numpy as np
import torch

BLOCK = 128


def is_fp8(name, p):
    return p.dim() == 2 and "weights_proj" not in name


def e4m3_values():
    """The 256 values of e4m3 (NaN at 0x7f and 0xff)."""
    out = np.zeros(256, np.float32)
    for b in range(256):
        e, m = (b >> 3) & 15, b & 7
        v = np.ldexp(m / 8, -6) if e == 0 else np.ldexp(1 + m / 8, e - 7)
        out[b] = np.nan if (b & 127) == 127 else (-v if b & 128 else v)
    return out


VALUES = e4m3_values()


def to_e4m3(x):
    """float32 array within +-448 -> bytes, to nearest, ties to even."""
    positive = VALUES[:127]
    a = np.abs(x)
    hi = np.clip(np.searchsorted(positive, a), 0, 126)
    lo = np.maximum(hi - 1, 0)
    dh, dl = positive[hi] - a, a - positive[lo]
    code = np.where((dl < dh) | ((dl == dh) & (lo % 2 == 0)), lo, hi).astype(np.uint8)
    return code | np.where(np.signbit(x), 128, 0).astype(np.uint8)


def quantise(w):
    """fp32 [out, in] -> (bytes [out, in], scale_inv fp32 [ceil(out/128), ceil(in/128)])."""
    o, i = w.shape
    ob, ib = -(-o // BLOCK), -(-i // BLOCK)
    pad = np.zeros((ob * BLOCK, ib * BLOCK), np.float32)
    pad[:o, :i] = w
    blocks = pad.reshape(ob, BLOCK, ib, BLOCK)
    scale = np.maximum(np.abs(blocks).max((1, 3)), 1e-12).astype(np.float32) / 448.0
    code = to_e4m3(blocks / scale[:, None, :, None])
    return code.reshape(ob * BLOCK, ib * BLOCK)[:o, :i].copy(), scale


def dequantise(code, scale):
    o, i = code.shape
    return VALUES[code] * np.repeat(np.repeat(scale, BLOCK, 0), BLOCK, 1)[:o, :i]


def round_model(model):
    """Replaces the matrices of a model by what their FP8 form gives back, the rest by their BF16 form."""
    with torch.no_grad():
        for n, p in model.named_parameters():
            if is_fp8(n, p):
                p.copy_(torch.from_numpy(dequantise(*quantise(p.detach().float().cpu().numpy()))))
            elif p.dim() == 2:
                p.copy_(p.to(torch.bfloat16).float())


def bf16_bytes(p):
    return p.detach().to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes()


def write_safetensors(path, tensors):
    """tensors: {name: (dtype string, shape, bytes)}"""
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for n, (dtype, shape, raw) in tensors.items():
        head[n] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, _, raw in tensors.values():
            f.write(raw)


def read_safetensors(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    kinds = {"F32": np.float32, "I64": np.int64, "I32": np.int32, "F8_E4M3": np.uint8, "BF16": np.uint16}
    out = {}
    for name, d in json.loads(raw[8:8 + n]).items():
        if name != "__metadata__":
            a, b = d["data_offsets"]
            x = np.frombuffer(raw, kinds[d["dtype"]], offset=8 + n + a, count=(b - a) // np.dtype(kinds[d["dtype"]]).itemsize).reshape(d["shape"])
            out[name] = (x.astype(np.uint32) << 16).view(np.float32) if d["dtype"] == "BF16" else x
    return out


def write(model, out, fp8=True):
    os.makedirs(out, exist_ok=True)
    tensors = {}
    for n, p in model.state_dict().items():
        name = "model." + n
        if fp8 and is_fp8(n, p):
            code, scale = quantise(p.detach().float().cpu().numpy())
            tensors[name] = ("F8_E4M3", code.shape, code.tobytes())
            tensors[name + "_scale_inv"] = ("F32", scale.shape, scale.tobytes())
        elif p.dim() == 2:
            tensors[name] = ("BF16", tuple(p.shape), bf16_bytes(p))
        else:
            tensors[name] = ("F32", tuple(p.shape), p.detach().float().cpu().numpy().tobytes())
    write_safetensors(os.path.join(out, "model.safetensors"), tensors)
    cfg = model.cfg
    json.dump(cfg.to_json(fp8), open(os.path.join(out, "config.json"), "w"), indent=2)
    json.dump({"_from_model_config": True, "bos_token_id": cfg.bos_token_id, "eos_token_id": cfg.eos_token_id, "pad_token_id": cfg.pad_token_id,
               "do_sample": False}, open(os.path.join(out, "generation_config.json"), "w"), indent=2)


def load(folder, device="cpu"):
    """The model of a shipped folder, its weights as an engine would see them, in fp32."""
    from config import Config
    from model import Model
    model = Model(Config.from_json(os.path.join(folder, "config.json")))
    raw = read_safetensors(os.path.join(folder, "model.safetensors"))
    state = {}
    for n in model.state_dict():
        x = raw["model." + n]
        s = raw.get("model." + n + "_scale_inv")
        state[n] = torch.from_numpy((dequantise(x, s) if s is not None else np.asarray(x, np.float32)).copy())
    model.load_state_dict(state)
    return model.to(device)


def main():
    import evaluate
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--bf16", action="store_true")
    args = ap.parse_args()
    write(evaluate.load_model(args.model, "cpu"), args.out, fp8=not args.bf16)


if __name__ == "__main__":
    main()
