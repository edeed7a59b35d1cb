#!/usr/bin/env python3
"""What plain PyTorch makes of a checkpoint in the released form: DIR/expected.safetensors (engine/check.h).

    build/tests/make_checkpoint DIR --experts 16 --vocab 4096
    python3 tests/torch_reference.py DIR [--tokens 2304] [--greedy 8] [--device cuda]
    build/pharos model check --device cuda:0,1 DIR

Configuration deepseek_v32: FP8 weights with 128 x 128 factors, YaRN, indexer, experts in groups. Everything is in float64 and
over the whole prompt at once: keys and values expanded for each head, every score computed, a mask where a position is
not selected. `--index fp8` selects as the release does, with index queries and keys rotated (Hadamard) and rounded to FP8;
whichever is asked for, it is said how far the two selections agree. `--transformers` also has DeepseekV32ForCausalLM
of the transformers library compute the same weights in fp32 and says how far it is off.
"""
import argparse
import json
import math
import os
import struct

import numpy as np
import torch

KIND = {"F8_E4M3": torch.float8_e4m3fn, "BF16": torch.bfloat16, "F32": torch.float32}
NUMPY = {"F8_E4M3": np.uint8, "BF16": np.int16, "F32": np.float32}


class Weights:
    """Tensors of the shards, dequantised when they are asked for."""

    def __init__(self, folder, device):
        self.device, self.where = device, {}
        for name in sorted(n for n in os.listdir(folder) if n.startswith("model") and n.endswith(".safetensors")):
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                size = struct.unpack("<Q", f.read(8))[0]
                header = json.loads(f.read(size))
            data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + size)
            for key, t in header.items():
                if key != "__metadata__":
                    self.where[key] = (data, t)

    def raw(self, name):
        data, t = self.where[name]
        bytes_ = np.array(data[t["data_offsets"][0]:t["data_offsets"][1]])
        stored = torch.from_numpy(bytes_.view(NUMPY[t["dtype"]]).reshape(t["shape"])).to(self.device)
        return stored.view(KIND[t["dtype"]])

    def get(self, name, dtype=torch.float64):
        w = self.raw(name)
        if w.dtype != torch.float8_e4m3fn:
            return w.to(dtype)
        factor = self.raw(name + "_scale_inv").to(dtype)
        rows, cols = w.shape
        w = w.to(torch.float32).to(dtype)
        for r in range(factor.shape[0]):  # a block's row of factors at a time: no second array of the matrix's size
            w[r * 128:(r + 1) * 128] *= factor[r].repeat_interleave(128)[:cols]
        return w


def rms(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def frequencies(c):
    """Radians per position of each pair; a ramp between those that turn beta_fast and beta_slow times in training."""
    r = c["qk_rope_head_dim"]
    scaling = c.get("rope_scaling") or c.get("rope_parameters") or {}
    theta = c.get("rope_theta") or scaling["rope_theta"]
    f = theta ** (-torch.arange(0, r, 2, dtype=torch.float64) / r)
    if scaling.get("type", scaling.get("rope_type")) != "yarn":
        return f, 1.0
    at = [r * math.log(scaling["original_max_position_embeddings"] / (turns * 2 * math.pi)) / (2 * math.log(theta))
          for turns in (scaling["beta_fast"], scaling["beta_slow"])]
    low, high = max(math.floor(at[0]), 0), min(math.ceil(at[1]), r - 1)
    ramp = ((torch.arange(r // 2) - low) / max(high - low, 0.001)).clamp(0, 1).double()
    mscale = 0.1 * scaling["mscale_all_dim"] * math.log(scaling["factor"]) + 1
    return f / scaling["factor"] * ramp + f * (1 - ramp), mscale * mscale


def rotate(x, cos, sin, interleaved):
    """x [T, ..., r]; cos, sin [T, r / 2]."""
    shape = (x.shape[0],) + (1,) * (x.dim() - 2) + (-1,)
    cos, sin = cos.view(shape), sin.view(shape)
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else x.chunk(2, -1)
    low, high = a * cos - b * sin, a * sin + b * cos
    return torch.stack((low, high), -1).flatten(-2) if interleaved else torch.cat((low, high), -1)


def hadamard(x):
    """Orthogonal transform over the last dimension, a power of two."""
    n, shape = x.shape[-1], x.shape
    half = 1
    x = x.reshape(-1, n)
    while half < n:
        x = x.view(-1, n // (2 * half), 2, half)
        x = torch.stack((x[:, :, 0] + x[:, :, 1], x[:, :, 0] - x[:, :, 1]), 2).reshape(-1, n)
        half *= 2
    return x.view(shape) * n ** -0.5


def fp8(x):
    """Rounded to e4m3 with a power of two for each row, as the release rounds index queries and keys."""
    amax = x.abs().amax(-1, keepdim=True).clamp(min=1e-4)
    s = torch.exp2(torch.ceil(torch.log2(amax / 448)))
    return (x / s).clamp(-448, 448).to(torch.float32).to(torch.float8_e4m3fn).to(torch.float64) * s


class Model:
    def __init__(self, folder, device, index):
        self.c = json.load(open(os.path.join(folder, "config.json")))
        self.w, self.device, self.index = Weights(folder, device), device, index
        self.eps = self.c["rms_norm_eps"]
        self.freq, mscale = frequencies(self.c)
        self.scale = (self.c["qk_nope_head_dim"] + self.c["qk_rope_head_dim"]) ** -0.5 * mscale
        self.agree = []

    def selection(self, at, x, q_a, cos, sin):
        c, w, n, r = self.c, self.w, x.shape[0], self.c["qk_rope_head_dim"]
        heads, dim, k = c["index_n_heads"], c["index_head_dim"], min(c["index_topk"], n)
        q = (q_a @ w.get(at + "wq_b.weight").T).view(n, heads, dim)
        key = x @ w.get(at + "wk.weight").T
        key = torch.nn.functional.layer_norm(key, (dim,), w.get(at + "k_norm.weight"), w.get(at + "k_norm.bias"), 1e-6)
        q = torch.cat((rotate(q[..., :r], cos, sin, False), q[..., r:]), -1)
        key = torch.cat((rotate(key[..., :r], cos, sin, False), key[..., r:]), -1)
        head = x @ w.get(at + "weights_proj.weight").T * heads ** -0.5 * dim ** -0.5
        seen = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()

        def best(q, key):
            score = torch.zeros(n, n, dtype=x.dtype, device=x.device)
            for h in range(heads):
                score += head[:, h:h + 1] * torch.relu(q[:, h] @ key.T)
            return score.masked_fill(~seen, -torch.inf).topk(k, -1).indices

        exact, rounded = best(q, key), best(fp8(hadamard(q)), fp8(hadamard(key)))
        chosen = {"exact": exact, "fp8": rounded}
        if n > k:
            mark = [torch.zeros(n, n, dtype=torch.bool, device=x.device).scatter_(1, i, True)[k:] for i in (exact, rounded)]
            self.agree.append(float((mark[0] & mark[1]).sum(1).double().mean()) / k)
        return chosen[self.index]

    def attention(self, at, x, cos, sin):
        c, w, n = self.c, self.w, x.shape[0]
        heads, nope, r, v = c["num_attention_heads"], c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        q_a = rms(x @ w.get(at + "q_a_proj.weight").T, w.get(at + "q_a_layernorm.weight"), 1e-6)
        q = (q_a @ w.get(at + "q_b_proj.weight").T).view(n, heads, nope + r)
        kv = x @ w.get(at + "kv_a_proj_with_mqa.weight").T
        latent = rms(kv[:, :-r], w.get(at + "kv_a_layernorm.weight"), 1e-6)
        k_pe, q_pe = rotate(kv[:, -r:], cos, sin, True), rotate(q[..., nope:], cos, sin, True)
        both = (latent @ w.get(at + "kv_b_proj.weight").T).view(n, heads, nope + v)
        chosen = self.selection(at + "indexer.", x, q_a, cos, sin)
        mask = torch.zeros(n, n, dtype=torch.bool, device=x.device).scatter_(1, chosen, True).tril()
        out = torch.empty(n, heads, v, dtype=x.dtype, device=x.device)
        for h in range(heads):
            score = (q[:, h, :nope] @ both[:, h, :nope].T + q_pe[:, h] @ k_pe.T) * self.scale
            out[:, h] = score.masked_fill(~mask, -torch.inf).softmax(-1) @ both[:, h, nope:]
        return out.flatten(1) @ w.get(at + "o_proj.weight").T, chosen

    def mlp(self, at, x):
        gate, up = x @ self.w.get(at + "gate_proj.weight").T, x @ self.w.get(at + "up_proj.weight").T
        return (torch.nn.functional.silu(gate) * up) @ self.w.get(at + "down_proj.weight").T

    def feed(self, at, layer, x):
        c, w = self.c, self.w
        if layer < c["first_k_dense_replace"]:
            return self.mlp(at, x)
        score = torch.sigmoid(x @ w.get(at + "gate.weight").T)
        choice = score + w.get(at + "gate.e_score_correction_bias")
        n, experts, groups = x.shape[0], score.shape[1], c["n_group"]
        group = choice.view(n, groups, -1).topk(2, -1).values.sum(-1).topk(c["topk_group"], -1).indices
        open_ = torch.zeros(n, groups, dtype=torch.bool, device=x.device).scatter_(1, group, True)
        choice = choice.masked_fill(~open_.repeat_interleave(experts // groups, 1), -torch.inf)
        picks = choice.topk(c["num_experts_per_tok"], -1).indices
        weight = score.gather(1, picks)
        weight = weight / weight.sum(-1, keepdim=True) * c["routed_scaling_factor"]
        y = self.mlp(at + "shared_experts.", x)
        for e in range(experts):
            row, slot = torch.where(picks == e)
            if len(row):
                y[row] += weight[row, slot, None] * self.mlp(f"{at}experts.{e}.", x[row])
        return y

    def __call__(self, ids, last=False):
        """hidden states, selections, logits (of the last token alone where `last`)."""
        n = len(ids)
        # the angle is an fp32 product in every implementation
        angle = (torch.arange(n).float()[:, None] * self.freq.float()[None]).double().to(self.device)
        cos, sin = angle.cos(), angle.sin()
        x = self.w.get("model.embed_tokens.weight")[torch.tensor(ids, device=self.device)]
        hidden, chosen = [], []
        for i in range(self.c["num_hidden_layers"]):
            at = f"model.layers.{i}."
            hidden.append(x)
            y, selected = self.attention(at + "self_attn.", rms(x, self.w.get(at + "input_layernorm.weight"), self.eps), cos, sin)
            x = x + y
            x = x + self.feed(at + "mlp.", i, rms(x, self.w.get(at + "post_attention_layernorm.weight"), self.eps))
            chosen.append(selected)
        x = rms(x, self.w.get("model.norm.weight"), self.eps)
        hidden.append(x)
        return hidden, chosen, (x[-1:] if last else x) @ self.w.get("lm_head.weight").T


def with_transformers(folder, model, ids, hidden, logits):
    """The same weights in transformers' own class."""
    from transformers import AutoConfig, AutoModelForCausalLM
    config = AutoConfig.from_pretrained(folder)
    for name in ("quantization_config",):
        if hasattr(config, name):
            delattr(config, name)
    config._attn_implementation = "eager"
    torch.set_default_dtype(torch.float32)
    with torch.device(model.device):
        other = AutoModelForCausalLM.from_config(config)
    left = dict(other.named_parameters()) | {k: v for k, v in other.named_buffers() if "e_score" in k}
    missing = []
    with torch.no_grad():
        for name, p in left.items():
            if name in model.w.where:
                p.copy_(model.w.get(name, torch.float32))
            elif "experts.gate_up_proj" in name or "experts.down_proj" in name:
                at = name.rsplit(".", 1)[0]
                for e in range(p.shape[0]):
                    parts = ("gate_proj", "up_proj") if "gate_up" in name else ("down_proj",)
                    w = torch.cat([model.w.get(f"{at}.{e}.{part}.weight", torch.float32) for part in parts])
                    p[e].copy_(w if w.shape == p[e].shape else w.T)
            else:
                missing.append(name)
        if missing:
            print("transformers: parameters without weights:", missing[:8])
        got = other.eval()(torch.tensor([ids], device=model.device), output_hidden_states=True)
    print(f"transformers, {type(other).__name__} in fp32: logits differ by {float((got.logits[0].double() - logits).abs().max()):.2e}"
          f" (median of rows' largest {float((got.logits[0].double() - logits).abs().amax(1).median()):.2e})")
    for i, h in enumerate(got.hidden_states):
        d = (h[0].double() - hidden[i]).abs()
        print(f"  hidden.{i}: {float(d.max()):.2e}, median of rows {float(d.amax(1).median()):.2e}")


def write(path, tensors):
    header, at = {}, 0
    for name, t in tensors.items():
        kind = {"float32": "F32", "int32": "I32"}[str(t.dtype)]
        header[name] = {"dtype": kind, "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            f.write(t.tobytes())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dir")
    p.add_argument("--tokens", type=int, default=2304)
    p.add_argument("--greedy", type=int, default=8)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--index", choices=("exact", "fp8"), default="exact")
    p.add_argument("--transformers", action="store_true")
    p.add_argument("--compare", help="an expected.safetensors of the same checkpoint: take its tokens, and say how far off it is")
    o = p.parse_args()
    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = False
    model = Model(o.dir, o.device, o.index)
    if o.compare:
        other = Weights.__new__(Weights)
        other.device, other.where = o.device, {}
        with open(o.compare, "rb") as f:
            header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
            start = f.tell()
        data = np.fromfile(o.compare, dtype=np.uint8)[start:]
        get = lambda name: torch.from_numpy(data[slice(*header[name]["data_offsets"])].copy().view(
            np.int32 if header[name]["dtype"] == "I32" else np.float32).reshape(header[name]["shape"])).to(o.device)
        hidden, chosen, logits = model(get("input_ids").tolist())
        print(f"{o.compare}: logits differ by {float((get('logits') - logits).abs().max()):.2e}",
              *(f"hidden.{i} {float((get(f'hidden.{i}') - h).abs().max()):.2e}" for i, h in enumerate(hidden)))
        return
    ids = np.random.default_rng(o.seed).integers(3, model.c["vocab_size"], o.tokens).tolist()
    hidden, chosen, logits = model(ids)
    if o.transformers:
        with_transformers(o.dir, model, ids, hidden, logits)
    out = {"input_ids": np.asarray(ids, np.int32), "logits": logits.float().cpu().numpy()}
    for i, h in enumerate(hidden):
        out[f"hidden.{i}"] = h.float().cpu().numpy()
    for i, s in enumerate(chosen):
        out[f"topk.{i}"] = s.to(torch.int32).cpu().numpy()
    seq, following = list(ids), logits[-1:]
    for i in range(o.greedy):
        seq.append(int(following[-1].argmax()))
        if i + 1 < o.greedy:
            following = model(seq, last=True)[2]
    out["greedy"] = np.asarray(seq[o.tokens:], np.int32)
    write(os.path.join(o.dir, "expected.safetensors"), out)
    print(f"{o.tokens} tokens, then {seq[o.tokens:]}; selected by {o.index} scores; FP8 and exact selections share "
          + ", ".join(f"{a:.4f}" for a in model.agree[:len(chosen)]) + " of their positions, layer by layer")


main()
