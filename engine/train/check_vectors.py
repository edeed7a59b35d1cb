"""Vectors that hold another engine to a shipped model: a real prompt, and what this forward pass makes of it in fp32.

    python3 check_vectors.py --model WORK/nano --tokenizer ../nano --corpus WORK/corpus --out OUT [--length 1024]

OUT becomes a model folder (config, tokenizer, weights) with expected.safetensors beside: input_ids [T];
logits [T, vocab]; hidden.i [T, hidden] (0 = embeddings, the last after the final norm); topk.i [T, k]
selected positions of layer i, unordered, padded with the last position (T must exceed the selection); greedy [16], the next tokens by
argmax. The weights are the dequantised ones. Exact ties at the cut of a selection are possible
(4 index heads): force topk.i to compare the rest.
"""
import argparse
import os
import shutil

import numpy as np
import torch

import evaluate
import export
import tokenizer as tk
from data.corpus import opened

SHIPPED = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def make(model, ids):
    """{name: array} for one token sequence."""
    t, n = len(ids), model.cfg.num_hidden_layers
    batch, pos = torch.tensor(ids)[None], torch.arange(t)[None]
    out, chosen = {"input_ids": np.asarray(ids, np.int32)}, []
    with torch.no_grad():
        last = model.sparse(batch, pos, each_layer=lambda i, parts, idx: chosen.append(idx))
        x, cos, sin = model.embed(batch, pos)
        for i, layer in enumerate(model.layers):
            out[f"hidden.{i}"] = x.numpy().copy()
            q, kv, *_ = layer.before_sparse(x, cos, sin)
            o = evaluate.sparse.attend(q, kv, chosen[i], model.cfg.kv_lora_rank, model.cfg.scale)
            x = layer.after_sparse(x, o)
            out[f"topk.{i}"] = torch.where(chosen[i] < 0, torch.full_like(chosen[i], t - 1), chosen[i]).numpy()
        out[f"hidden.{n}"] = last.numpy()
        out["logits"] = model.logits(last).numpy()
        seq = list(ids)
        for _ in range(16):
            h = model.sparse(torch.tensor(seq)[None], torch.arange(len(seq))[None])
            seq.append(int(model.logits(h[-1:]).argmax()))
        out["greedy"] = np.asarray(seq[t:], np.int32)
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--corpus", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--length", type=int, default=1024)
    args = ap.parse_args()
    model = export.load(args.model)
    maker = evaluate.Maker(opened(args.corpus), tk.load(args.tokenizer))
    hay, qs = maker.grid(args.length + 640, 0)
    prompt = list(qs[0][1]) + evaluate.OPENING["direct"]
    ids = hay.tolist()[:args.length - len(prompt)] + prompt
    os.makedirs(args.out, exist_ok=True)
    kinds = {"float32": "F32", "int32": "I32"}
    tensors = {k: (kinds[str(v.dtype)], v.shape, np.ascontiguousarray(v).tobytes()) for k, v in make(model, [int(i) for i in ids]).items()}
    export.write_safetensors(os.path.join(args.out, "expected.safetensors"), tensors)
    for name in SHIPPED:
        for folder in (args.model, args.tokenizer):
            if os.path.exists(os.path.join(folder, name)):
                shutil.copy(os.path.join(folder, name), args.out)
                break


if __name__ == "__main__":
    main()
