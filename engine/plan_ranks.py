#!/usr/bin/env python3
"""What N GPUs would do with a whole DeepSeek-V3.2, on paper: the formulas of PARALLEL.md with figures from one GPU.

    python3 engine/plan_ranks.py engine/plan_ranks.json             # what was measured, and on what machine
    pharos bench --kernels --device cuda --json > kernels.json      # or the same again, on one H200
    python3 engine/plan_ranks.py [kernels.json] [--ranks 8] [--dollars 2]

What a file has not is assumed, and marked so. Prints tables in Markdown.
"""

import argparse
import json
from math import comb

# The released configuration.
LAYERS, DENSE_LAYERS, HIDDEN, HEADS, VOCAB = 61, 3, 7168, 128, 129280
Q_LORA, KV_LORA, NOPE, ROPE, V_DIM = 1536, 512, 128, 64, 128
INDEX_HEADS, INDEX_DIM, TOPK = 64, 128, 2048
DENSE_WIDTH, EXPERT_WIDTH, EXPERTS, PICKS, GROUPS, GROUP_PICKS = 18432, 2048, 256, 8, 8, 4

# Bytes a token and layer keeps: FP8 latents with their factors and the rotated part; FP8 index keys with a factor.
LATENT_BYTES, INDEX_BYTES = 656, 132

# Weights of a layer, in numbers. Dealt: by head and by column. Everybody's: the projections into latents.
ATTENTION = Q_LORA * HEADS * (NOPE + ROPE) + HEADS * KV_LORA * (NOPE + V_DIM) + HEADS * V_DIM * HIDDEN
KV_B = HEADS * KV_LORA * (NOPE + V_DIM)  # of those, held once: a rank has all heads' and takes its own
COMMON = HIDDEN * (Q_LORA + KV_LORA + ROPE + INDEX_DIM)
INDEX_QUERY = Q_LORA * INDEX_HEADS * INDEX_DIM
ROUTER = HIDDEN * (EXPERTS + INDEX_HEADS)  # kept in fp32
EXPERT = 3 * HIDDEN * EXPERT_WIDTH
DENSE = 3 * HIDDEN * DENSE_WIDTH


class Rates:
    """A second, on one GPU. `source` says where each is from."""

    def __init__(self):
        self.of = {
            "products": (550e12, "assumed: 70% of a bf16 peak of 790 TFLOP/s"),
            "experts": (550e12, "assumed: the same"),
            "fp32": (5e12, "assumed: products in fp32"),
            "attention": (400e12, "assumed"),
            "index": (900e12, "assumed"),
            "topk": (2.0e12, "assumed"),
            "memory": (4.3e12, "assumed: what copies reach"),
            "decode": (0.7, "assumed: a layer's bytes at 70% of the bandwidth"),
            "link": (0.8 * 450e9, "assumed: 80% of the datasheet's 450 GB/s each way"),
            "exchange": (6e-6, "assumed: a sum of one row, with its launch"),
            "gather": (20e-6, "assumed: a small exchange of NCCL, with its launch"),
        }
        self.layer = None  # ranks, {position: seconds}: a layer writing one token with a rank's share

    def __getitem__(self, name):
        return self.of[name][0]

    def measured(self, path):
        """Takes what `pharos bench --kernels --json` has, or plan_ranks.json; what it has not stays assumed."""
        rows = json.load(open(path))
        if isinstance(rows, dict):
            file, rows = rows, rows["kernels"]
            print(f"Measured {file['date']} at {file['commit']}: {file['machine']}.\n")
            self.of["fp32"] = (file["fp32"]["per_s"], "measured: " + file["fp32"]["note"])
            self.of["exchange"] = (file["sums"]["row_s"], "measured: " + file["sums"]["note"])
            self.of["link"] = (file["sums"]["bytes_per_s"], "measured: the same, many rows")
            self.of["gather"] = (file["nccl"]["exchange_s"], "measured: " + file["nccl"]["note"])
            self.layer = (file["layer"]["ranks"], {int(at): s for at, s in file["layer"]["seconds"].items()})
            shown = ", ".join(f"{s * 1e6:.0f} us at {at}" for at, s in sorted(self.layer[1].items()))
            print(f"A layer writing one token with the share of one of {self.layer[0]}: {shown} ({file['layer']['note']}).\n")
        def find(part, what):
            return next((r for r in rows if part in r["part"] and r["what"].startswith(what) and r["seconds"] > 0), None)
        def rate(name, part, what):
            r = find(part, what)
            if r:
                self.of[name] = (r["work"] / r["seconds"], f"measured: {r['what']}")
            return r
        rate("products", "products of a prefill step", "7,168 x 16,384")
        rate("experts", "products of a prefill step", "32 of 256 experts") or rate("experts", "products of a prefill step", "eight experts")
        rate("attention", "sparse attention", "prefill over bf16 latents")
        rate("index", "index scores in FP8", "prefill")
        rate("topk", "exact top", "top-k, 512 rows")
        peak = next((r for r in rows if r["what"] == "reading memory"), None)
        if peak:
            self.of["memory"] = (peak["work"] / peak["seconds"], "measured: reading memory")
        layer = find("one layer writing one token", "the layer, as one CUDA graph")
        if layer:
            share = layer["work"] / layer["seconds"] / self["memory"]
            self.of["decode"] = (share, "measured: a layer's decode as one graph, bytes over time over bandwidth")


def most_loaded(ranks, picks=PICKS + 1):
    """Mean of the largest number of a token's experts on one rank, dealt out in turn: picks fall on ranks at random, the
    shared expert by the token's position."""
    # P(no rank has more than m) by counting the ways to fill the ranks one after the other.
    def ways(m):
        fill = [1] + [0] * picks
        for _ in range(ranks):
            fill = [sum(fill[n - j] * comb(n, j) for j in range(min(m, n) + 1)) for n in range(picks + 1)]
        return fill[picks] / ranks ** picks
    return sum(1 - ways(m) for m in range(picks))


def memory(ranks):
    """Bytes of weights on one rank, FP8 with their factors (0.02% more, left out); embeddings and head in bf16."""
    moe = LAYERS - DENSE_LAYERS
    # Attention's twice: whole for rows of a prefill, by heads for a written token.
    dealt = LAYERS * (ATTENTION - KV_B) + DENSE_LAYERS * DENSE + moe * EXPERTS * EXPERT + 2 * VOCAB * HIDDEN
    common = LAYERS * (ATTENTION + COMMON + INDEX_QUERY + 4 * ROUTER) + moe * EXPERT + 2 * VOCAB * HIDDEN
    return dealt / ranks + common


def sums(ranks, r, tokens, batch_small):
    """A layer's exchanges of `tokens` rows of fp32: few rows have two sums; many a sum after the experts, and x, latents
    and index keys gathered."""
    one = HIDDEN * 4 * tokens
    if batch_small:  # everyone gets everyone's, each number with its turn; two ranks are what was measured
        return 2 * (r["exchange"] + (ranks - 2) * 2 * one / r["link"])
    wire = 3 * (ranks - 1) / ranks * one + (ranks - 1) / ranks * (KV_LORA + ROPE + INDEX_DIM) * 4 * tokens
    return r["exchange"] + 3 * r["gather"] + wire / r["link"]


def prefill(ranks, r, position, chunk):
    """Seconds a token of a chunk at `position`, over all layers, part by part."""
    active = (DENSE_LAYERS * DENSE + (LAYERS - DENSE_LAYERS) * (PICKS + 1) * EXPERT) / LAYERS
    keys = min(position, TOPK)
    parts = {
        "dealt products": 2 * (ATTENTION + INDEX_QUERY) / ranks / r["products"],
        "experts": 2 * active / ranks / r["experts"],
        "low-rank products": 2 * COMMON / ranks / r["products"],
        "router, head weights": 2 * ROUTER / ranks / r["fp32"],
        "index scores": 2 * INDEX_HEADS * INDEX_DIM * position / ranks / r["index"],
        "top-k": 4 * position / ranks / r["topk"],
        "attention": max(2 * HEADS * keys * (2 * KV_LORA + ROPE) / r["attention"],
                         keys * (KV_LORA + ROPE) * 2 / r["memory"]) / ranks,
        # Rows of hidden read and written by norms, sums and the dealing of experts; a head's arrays once each way.
        "norms, rotations, additions": 4 * (10 * HIDDEN + 6 * HIDDEN / ranks +
                                            2 * HEADS / ranks * (NOPE + ROPE + 2 * KV_LORA + V_DIM)) / r["memory"],
    }
    if ranks > 1:
        parts["exchanges"] = sums(ranks, r, chunk, False) / chunk
    return {name: LAYERS * seconds for name, seconds in parts.items()}


def layer_seconds(ranks, r, position):
    """A layer writing one token, as measured with a rank's share: a line through what was measured. None: it was not."""
    if not r.layer or r.layer[0] != ranks:
        return None
    (near, first), (far, last) = min(r.layer[1].items()), max(r.layer[1].items())
    return first + (last - first) * (position - near) / (far - near) if far > near else first


def decode(ranks, r, position, batch):
    """Seconds of a step that writes one token in each of `batch` conversations at `position`."""
    # Experts that are read by the most loaded rank: of one token's, or nearly all of its own when there are many tokens.
    mean = EXPERTS / ranks * (1 - (1 - PICKS / EXPERTS) ** batch) + 1 - (1 - 1 / ranks) ** batch
    experts = max(mean, most_loaded(ranks) if batch == 1 else mean)
    moe = (LAYERS - DENSE_LAYERS) / LAYERS
    weights = (ATTENTION + (1 - moe) * DENSE) / ranks + moe * experts * EXPERT
    weights += COMMON + INDEX_QUERY + 4 * ROUTER
    caches = batch * (position * INDEX_BYTES + min(position, TOPK) * LATENT_BYTES)
    work = 2 * (ATTENTION + moe * (PICKS + 1) * EXPERT + (1 - moe) * DENSE) / ranks * batch / r["products"]
    # The measured share of the bandwidth has selection and attention in it, and their caches.
    alone = layer_seconds(ranks, r, position)
    by_bytes = (weights + caches) / (r["memory"] * r["decode"])
    parts = {"layers": alone if alone and batch == 1 else max(by_bytes, work, alone or 0)}
    if ranks > 1:
        parts["exchanges"] = sums(ranks, r, batch, batch * HIDDEN <= 65536)
    parts = {name: LAYERS * seconds for name, seconds in parts.items()}
    parts["head"] = 2 * VOCAB * HIDDEN / ranks / r["memory"] + (r["gather"] if ranks > 1 else 0)
    return parts


def table(title, columns, rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    print(f"\n| {title} | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for name in names:
        print(f"| {name} | " + " | ".join(row.get(name, "") for row in rows) + " |")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("kernels", nargs="?", help="output of pharos bench --kernels --json")
    p.add_argument("--ranks", type=int, default=8)
    p.add_argument("--chunk", type=int, default=4096, help="tokens of a prefill step")
    p.add_argument("--dollars", type=float, default=2, help="an hour of one GPU")
    o = p.parse_args()
    r = Rates()
    if o.kernels:
        r.measured(o.kernels)
    print(f"{o.ranks} GPUs, steps of {o.chunk} tokens. Weights on each: {memory(o.ranks) / 1e9:.1f} GB; caches of 128K "
          f"tokens, on each: {LAYERS * (LATENT_BYTES + INDEX_BYTES) * 131072 / 1e9:.1f} GB.\n\n| rate | | from |\n|---|---|---|")
    for name, (value, source) in r.of.items():
        shown = f"{value * 1e6:.0f} us" if value < 1e-2 else f"{value:.2f}" if value < 100 else f"{value / 1e12:.2f} T/s"
        print(f"| {name} | {shown} | {source} |")
    positions = [2048, 16384, 65536, 131072]
    price = o.dollars * o.ranks / 3600 * 1e6
    rows = []
    for at in positions:
        parts = prefill(o.ranks, r, at, o.chunk)
        row = {name: f"{s * 1e6:.1f}" for name, s in parts.items()}
        total = sum(parts.values())
        rows.append(row | {"sum": f"{total * 1e6:.0f}", "tokens/s": f"{1 / total:.0f}",
                           "dollars a million": f"{total * price:.2f}"})
    table("prefill, us a token at", [f"{at}" for at in positions], rows)
    middle = [(i + 0.5) * 131072 / 64 for i in range(64)]
    whole = sum(131072 / 64 * sum(prefill(o.ranks, r, at, o.chunk).values()) for at in middle)
    print(f"\nA prefill of 128K tokens: {whole:.1f} s, {131072 / whole:.0f} tokens/s, "
          f"{whole / 131072 * price:.2f} dollars a million tokens.")
    for batch in (1, 8):
        rows = []
        for at in positions:
            parts = decode(o.ranks, r, at, batch)
            row = {name: f"{s * 1e3:.2f}" for name, s in parts.items()}
            total = sum(parts.values())
            rows.append(row | {"sum": f"{total * 1e3:.2f}", "tokens/s": f"{batch / total:.0f}",
                               "dollars a million": f"{total / batch * price:.2f}"})
        table(f"decode, {batch} conversations at once (as many as 128K caches fit), ms a step at" if batch > 1
              else "decode, one conversation (what the engine does), ms a step at", [f"{at}" for at in positions], rows)


main()
