"""Checks of a model: needle grid, RULER-like tasks, written and SQuAD questions, not-found, the licences.

    python3 evaluate.py --corpus CORPUS --model DIR_OR_CHECKPOINT --tokenizer DIR [--out FILE] [--fp8]

A haystack is read once and its questions are asked from it as branches, batched
against the same cache; questions do not see one another. "sparse" selects
index_topk keys as shipped, "dense" attends to everything; "/quote" opens the answer with <think>, so that the
sentence that answers is copied first. All haystack prose, keys and
wordings are held out. In the grid, eleven needles of different wording
lie in one haystack, one at each depth, and are asked one at a time.
"""
import argparse
import collections
import glob
import json
import os
import random
import re
import string

import numpy as np
import torch
import torch.distributed as dist

import sparse
import tokenizer as tk
from data import facts, templates as T
from data.corpus import opened
from data.packs import Builder, Doc
from data.words import NOUN, ADJ, part

LICENCES = os.environ.get("PHAROS_LICENCES", "/usr/share/common-licenses")
# (task, length, haystacks, mode); a mode is dense or sparse, asked for the answer alone, with "/quote" for the sentence first, "/both" for either
QUICK = {
    "dense": [("text", 2048, 24, "dense"), ("grid", 4096, 4, "dense/both"), ("written", 1500, 12, "dense/both"), ("seen", 1500, 12, "dense/both"), ("squad", 1500, 4, "dense/both"),
              ("written", 8192, 4, "dense/both")],
    "warm": [("grid", 32768, 4, "dense"), ("grid", 32768, 4, "sparse/both"), ("grid", 131072, 4, "sparse"), ("written", 8192, 4, "sparse/both")],
    "sparse": [("grid", 8192, 4, "sparse/both"), ("grid", 32768, 4, "sparse/both"), ("grid", 131072, 4, "sparse/both"), ("written", 8192, 4, "sparse/both"),
               ("seen", 8192, 4, "sparse/both"), ("written", 32768, 4, "sparse/both"), ("squad", 8192, 4, "sparse/both"), ("licences", 0, 1, "sparse/both")],
    "ship": [("grid", 8192, 12, "sparse/both"), ("grid", 32768, 12, "sparse/both"), ("grid", 131072, 12, "sparse/both"),
             ("ruler", 8192, 16, "sparse/both"), ("ruler", 32768, 16, "sparse/both"), ("ruler", 131072, 8, "sparse/both"),
             ("written", 8192, 8, "sparse/both"), ("written", 32768, 4, "sparse/both"), ("written", 131072, 4, "sparse/both"),
             ("squad", 8192, 8, "sparse/both"), ("squad", 32768, 4, "sparse/both"), ("squad", 131072, 4, "sparse/both"), ("licences", 0, 1, "sparse/both")],
    "compare": [("grid", 8192, 4, "dense/both"), ("grid", 32768, 4, "dense/both"), ("grid", 131072, 4, "dense/both"),
                ("written", 8192, 4, "dense/both"), ("written", 32768, 4, "dense/both"), ("written", 1500, 12, "sparse/both"), ("seen", 1500, 12, "sparse/both"),
                ("squad", 1500, 12, "sparse/both"), ("licences", 0, 1, "dense/both")],
}
STYLES = {"": ("direct",), "quote": ("quote",), "both": ("direct", "quote")}
OPENING = {"direct": [tk.END_THINK], "quote": [tk.THINK]}
QUOTE_LIMIT = 130  # tokens of a quote; four statements may be quoted for a question with four answers
CHUNK = 192  # branch rows whose scores over the haystack are held at once


class Cache:
    """What one haystack leaves behind: latent rows and index keys of every layer."""

    def __init__(self):
        self.kv, self.ik, self.length = [], [], 0


@torch.no_grad()
def prefill(model, ids, mode, topk=None):
    cache, dev = Cache(), model.embed_tokens.weight.device
    ids = torch.as_tensor(np.asarray(ids, np.int64), device=dev)[None]
    pos = torch.arange(ids.shape[1], device=dev)[None]

    def keep(kv, ik):
        cache.kv.append(kv)
        cache.ik.append(ik)

    if mode == "dense":
        def look(i, layer, x, cos, sin):
            _, kv, _, ik, _ = layer.before_sparse(x, cos, sin)
            keep(kv, ik)
        model.dense(ids, pos, each_layer=look)
    else:
        model.sparse(ids, pos, each_layer=lambda i, parts, idx: keep(parts[1], parts[3]), topk=topk)
    cache.length = ids.shape[1]
    return cache


def branch_attention(model, q, iq, iw, cache_kv, cache_ik, own_kv, own_ik, col, mode, topk):
    """Attention of branch rows over the shared cache and their own branch. q [B, m, ...], own_* [B, M, ...], col [B, m]."""
    cfg = model.cfg
    b, m = q.shape[:2]
    t, width = cache_kv.shape[0], own_kv.shape[1]
    flat = lambda x: x.reshape(b * m, *x.shape[2:])
    q, iq, iw, col = flat(q), flat(iq), flat(iw), flat(col)
    owner = torch.arange(b, device=q.device).repeat_interleave(m)
    out = []
    for lo in range(0, b * m, CHUNK):
        rows = slice(lo, lo + CHUNK)
        hidden = torch.arange(width, device=q.device)[None] > col[rows, None]
        mine = own_kv[owner[rows]]
        if mode == "dense":
            s = torch.cat([torch.einsum("rhd,sd->rhs", q[rows], cache_kv), torch.einsum("rhd,rsd->rhs", q[rows], mine)], -1)
            s = s.float() * cfg.scale
            s[..., t:].masked_fill_(hidden[:, None], float("-inf"))
            p = s.softmax(-1).to(q.dtype)
            o = torch.einsum("rhs,sd->rhd", p[..., :t], cache_kv[:, :cfg.kv_lora_rank])
            out.append(o + torch.einsum("rhs,rsd->rhd", p[..., t:], mine[..., :cfg.kv_lora_rank]))
            continue
        far = 0.0
        for h in range(iq.shape[1]):
            far = far + torch.relu(iq[rows, h] @ cache_ik.T).float() * iw[rows, h, None]
        near = torch.relu(torch.einsum("rhd,rsd->rhs", iq[rows], own_ik[owner[rows]]).float())
        near = torch.einsum("rhs,rh->rs", near, iw[rows]).masked_fill(hidden, float("-inf"))
        v, idx = torch.cat([far, near], -1).topk(min(topk, t + 1), dim=-1)
        g = torch.where((idx < t)[..., None], cache_kv[idx.clamp(max=t - 1)],
                        own_kv[owner[rows, None], (idx - t).clamp(min=0)])
        s = torch.einsum("rhd,rkd->rhk", q[rows], g).float() * cfg.scale
        p = s.masked_fill((v == float("-inf"))[:, None], float("-inf")).softmax(-1).to(q.dtype)
        out.append(torch.einsum("rhk,rkd->rhd", p, g[..., :cfg.kv_lora_rank]))
    return torch.cat(out)


@torch.no_grad()
def ask(model, cache, prompts, limit, mode, topk=None, batch=64):
    """Greedy answers (token lists) to prompts (token lists), each asked right after the haystack."""
    if len(prompts) > batch:
        return sum((ask(model, cache, prompts[i:i + batch], limit, mode, topk, batch) for i in range(0, len(prompts), batch)), [])
    cfg, dev = model.cfg, model.embed_tokens.weight.device
    topk = topk or cfg.index_topk
    n = torch.tensor([len(p) for p in prompts], device=dev)
    b, m = len(prompts), int(n.max())
    ids = torch.full((b, m), tk.PAD, device=dev)
    for i, p in enumerate(prompts):
        ids[i, :len(p)] = torch.as_tensor(np.asarray(p, np.int64), device=dev)
    col = torch.arange(m, device=dev).expand(b, m)
    own_kv = [torch.zeros(b, m + limit, cfg.latent_dim, dtype=model.dtype, device=dev) for _ in model.layers]
    own_ik = [torch.zeros(b, m + limit, cfg.index_head_dim, dtype=model.dtype, device=dev) for _ in model.layers]
    who = torch.arange(b, device=dev)[:, None]
    out = torch.full((b, limit), tk.EOS, device=dev)
    done = torch.zeros(b, dtype=torch.bool, device=dev)
    for step in range(limit):
        x, cos, sin = model.embed(ids, cache.length + col)
        w = ids.shape[1]
        for i, layer in enumerate(model.layers):
            q, kv, iq, ik, iw = (y.view(b, w, *y.shape[1:]) for y in layer.before_sparse(x, cos, sin))
            own_kv[i][who, col] = kv
            own_ik[i][who, col] = ik.to(model.dtype)
            o = branch_attention(model, q, iq, iw, cache.kv[i], cache.ik[i], own_kv[i], own_ik[i], col, mode, topk)
            x = layer.after_sparse(x, o)
        x = x.view(b, w, -1)
        last = x[torch.arange(b, device=dev), (n - 1 if step == 0 else torch.zeros_like(n))]
        new = model.logits(model.norm(last)).float().argmax(-1)
        new = torch.where(done, torch.full_like(new, tk.EOS), new)
        out[:, step] = new
        done |= new == tk.EOS
        if done.all():
            break
        ids, col = new[:, None], (n + step)[:, None]
    rows = out.tolist()
    return [r[:r.index(tk.EOS)] if tk.EOS in r else r for r in rows]


@torch.no_grad()
def text_loss(model, ids, attention):
    """Mean cross-entropy a token."""
    ids = torch.as_tensor(ids, device=model.embed_tokens.weight.device)[None]
    pos = torch.arange(ids.shape[1], device=ids.device)[None]
    hidden = (model.dense if attention == "dense" else model.sparse)(ids, pos)
    return torch.nn.functional.cross_entropy(model.logits(hidden[:-1]).float(), ids[0, 1:]).item()


def split_quote(tok, ids, style):
    """(quote, answer) as text; a quote that never ends has no answer."""
    if style == "direct":
        return "", tok.decode(ids)
    if tk.END_THINK not in ids:
        return tok.decode(ids), ""
    cut = ids.index(tk.END_THINK)
    return tok.decode(ids[:cut]), tok.decode(ids[cut + 1:])


# scores ----------------------------------------------------------------------------


def normal(s):
    s = "".join(c if c not in string.punctuation else " " if c == "-" else "" for c in s.lower())
    return " ".join(w for w in s.split() if w not in ("a", "an", "the"))


def f1(got, wanted):
    best = 0.0
    for w in wanted:
        g, w = normal(got).split(), normal(w).split()
        same = sum((collections.Counter(g) & collections.Counter(w)).values())
        if same:
            best = max(best, 2 * same / (len(g) + len(w)))
        elif not g and not w:
            best = 1.0
    return best


# haystacks ---------------------------------------------------------------------------


class Maker:
    """Builds haystacks (token ids up to the question) and their questions [(tag, prompt ids, answers, depth)]."""

    def __init__(self, corpus, tok):
        self.corpus, self.tok = corpus, tok
        self.builder = Builder(corpus, tok, split="check")
        self.stock = self.builder.stock

    def prompt(self, q):
        """A question up to where its answer's opening follows."""
        return self.tok.encode(q) + [tk.ASSISTANT]

    def flatten(self, docs):
        parts = [np.array([tk.BOS, tk.USER])]
        for d in docs:
            parts += [self.builder.header(d.name)] + list(d.tokens()) + [self.builder.footer]
        return np.concatenate(parts).astype(np.int64)

    def prose(self, r, n):
        docs, left = [], n
        while left > 120:
            d = self.builder.section_doc(r, min(left - 40, r.choice((400, 1500, 4000, 12000, 40000))))
            if d:
                docs.append(d)
                left -= sum(map(len, d.pieces)) + 30
            else:
                left -= 40
        return docs

    def put(self, docs, text, depth):
        """Puts a statement at a share of the haystack's length, at the end of a sentence."""
        sizes = np.cumsum([0] + [len(p) for d in docs for p in d.pieces])
        slots = [(d, j) for d in docs for j in range(len(d.pieces))]
        k = min(int(np.searchsorted(sizes[1:], depth * sizes[-1])), len(slots) - 1)
        slots[k][0].inserts.append((slots[k][1], self.builder.enc(" " + text)))

    def grid(self, length, number):
        r = random.Random(f"grid/{length}/{number}")
        docs, qs, used = self.prose(r, length - 700), [], set()
        for i in range(11):
            while True:
                s = facts.Schema(r, self.stock)
                k, v = s.key(), s.value()
                if k not in used and (s.a, str(s.states)) not in used:
                    used |= {k, (s.a, str(s.states))}
                    break
            self.put(docs, s.state(k, v), i / 10)
            qs.append(("grid", self.prompt(s.ask(k)), [v], i))
        return self.flatten(docs), qs

    def ruler(self, length, number):
        r = random.Random(f"ruler/{length}/{number}")
        docs, qs = self.prose(r, length - 900), []
        keys = []
        while len(keys) < 16:
            k = f"{r.choice(part(ADJ, 'check'))}-{r.choice(part(NOUN, 'check'))}"
            if k not in keys:
                keys.append(k)

        def needle(kind, k, v):
            self.put(docs, f"One of the special magic {kind} for {k} is: {v}.", r.random())

        one = "What is the special magic {} for {} mentioned in the provided text?"
        v = self.stock.digits7(r)
        needle("numbers", keys[0], v)
        qs.append(("single_number", self.prompt(one.format("number", keys[0])), [v], 0))
        v = self.stock.uuid(r)
        needle("uuids", keys[1], v)
        qs.append(("single_uuid", self.prompt(one.format("uuid", keys[1])), [v], 0))
        for j in range(2, 6):
            v = self.stock.digits7(r)
            needle("numbers", keys[j], v)
            if j == 2:
                qs.append(("multikey_1", self.prompt(one.format("number", keys[j])), [v], 0))
        vs = [self.stock.digits7(r) for _ in range(4)]
        for v in vs:
            needle("numbers", keys[6], v)
        qs.append(("multivalue", self.prompt(f"What are all the special magic numbers for {keys[6]} mentioned in the provided text?"), vs, 0))
        vs = [self.stock.digits7(r) for _ in range(4)]
        for k, v in zip(keys[7:11], vs):
            needle("numbers", k, v)
        ks = ", ".join(keys[7:10]) + ", and " + keys[10]
        qs.append(("multiquery", self.prompt(f"What are all the special magic numbers for {ks} mentioned in the provided text?"), vs, 0))
        return self.flatten(docs), qs

    def passages(self, name, length, number, most, only=None):
        """Passages of a validation set with prose between until the length is reached; up to `most` questions."""
        r = random.Random(f"{name}/{length}/{number}")
        pool = [p for p in self.corpus.sets[name] if only is None or p["source"] == only]
        r.shuffle(pool)
        docs, qs, used = [], [], 0
        for p in pool:
            body = self.builder.enc(p["text"])
            if used + len(body) + 40 > length - 200:
                break
            docs.append(Doc(p["name"], [body]))
            used += len(body) + 30
            for q in r.sample(p["qas"], min(len(p["qas"]), 3)):
                qs.append((name, self.prompt(q["question"]), (q.get("answers") or [q["answer"]]) if q["answer"] else [T.ABSENT], int(q["answer"] is None)))
        if length - used > 400:
            docs += self.prose(r, length - used - 200)
        r.shuffle(docs)
        return self.flatten(docs), r.sample(qs, min(most, len(qs)))

    def text(self, length, split, number):
        """Plain prose of one side: what the language itself costs."""
        r = random.Random(f"text/{length}/{number}")
        name, lo, hi = self.corpus.section(r, length, split)
        return np.concatenate([self.corpus.tokens(i) for i in range(lo, max(hi, lo + 1))])[:length].astype(np.int64)

    def licences(self):
        docs = [Doc(os.path.basename(p), [self.builder.enc(open(p, encoding="utf-8", errors="replace").read())])
                for p in sorted(glob.glob(os.path.join(LICENCES, "*"))) if not os.path.islink(p)]
        here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "licences.jsonl")
        rows = [json.loads(line) for line in open(here)]
        return self.flatten(docs), [("licences", self.prompt(x["question"]), [x["answer"]], i) for i, x in enumerate(rows)]

    def make(self, task, length, number):
        if task in ("grid", "ruler"):
            return getattr(self, task)(length, number)
        if task == "licences":
            return self.licences()
        most = 60 if length <= 8192 else 100 if length <= 32768 else 200
        name, only = PASSAGES[task]
        return self.passages(name, length, number, most, only)


# passage sets, and the one source of a set; "seen" was trained on: its distance from "written" says what is learnt by heart
PASSAGES = {"written": ("qa_written_val", None), "seen": ("qa_written_train", None), "squad": ("qa_val", "squad2")}
LIMIT = {"grid": 40, "ruler": 56, "written": 40, "seen": 40, "squad": 32, "licences": 32}


def summarise(task, rows):
    """rows: (tag, got, answers, extra, quote) -> figures with their sample counts. quoted: share of quotes that hold the answer."""
    if task == "text":
        return {name: round(float(np.mean([x for side, x in rows if side == split])), 3) for name, split in (("loss", "check"), ("loss_seen", "train"))}
    quoted = [any(normal(x) in normal(row[4]) for x in row[2]) for row in rows if row[4] is not None and (task in ("grid", "licences") or not row[3])]
    found = {"quoted": round(100 * float(np.mean(quoted)), 1)} if quoted and task != "ruler" else {}
    if task == "grid":
        hit = [normal(a[0]) == normal(g) or (len(normal(a[0])) > 3 and normal(a[0]) in normal(g)) for _, g, a, *_ in rows]
        by = [[h for h, r in zip(hit, rows) if r[3] == d] for d in range(11)]
        return {**found, "exact": round(100 * float(np.mean(hit)), 1), "n": len(rows), "by_depth": [round(100 * float(np.mean(x)), 0) if x else None for x in by]}
    if task == "ruler":
        out = {}
        for tag in sorted({r[0] for r in rows}):
            mine = [r for r in rows if r[0] == tag]
            out[tag] = round(100 * float(np.mean([np.mean([a.lower() in g.lower() for a in ans]) for _, g, ans, *_ in mine])), 1)
            out["n"] = len(mine)
        return out
    if task == "licences":
        return {**found, "f1": round(100 * float(np.mean([f1(g, a) for _, g, a, *_ in rows])), 1), "n": len(rows),
                "contains": sum(normal(a[0]) in normal(g) for _, g, a, *_ in rows), "answers": [g for _, g, *_ in sorted(rows, key=lambda x: x[3])]}
    yes, no = [r for r in rows if not r[3]], [r for r in rows if r[3]]
    said = lambda g: normal(g) == normal(T.ABSENT)
    tpr = float(np.mean([said(g) for _, g, *_ in no])) if no else 0.0
    tnr = float(np.mean([not said(g) for _, g, *_ in yes])) if yes else 0.0
    return {**found, "f1": round(100 * float(np.mean([f1(g, a) for _, g, a, *_ in yes])), 1) if yes else None, "n": len(yes), "n_absent": len(no),
            "exact": round(100 * float(np.mean([any(normal(g) == normal(x) for x in a) for _, g, a, *_ in yes])), 1) if yes else None,
            "absent_said": round(100 * tpr, 1), "answer_kept": round(100 * tnr, 1), "balanced": round(50 * (tpr + tnr), 1)}


@torch.no_grad()
def run(model, tok, corpus_dir, checks, rank=0, world=1, toy=False, samples=None):
    """Table of checks [(task, length, haystacks, mode)], shared among ranks by haystack."""
    compiled, model.compiled = model.compiled, {}
    maker = Maker(opened(corpus_dir), tok)
    if toy:
        checks = [(t, 2500, 1, m) for t, n, _, m in checks if t == "grid"][:2]
    jobs = [(c, k) for c in range(len(checks)) for k in range(checks[c][2])]
    results = []
    for c, k in jobs[rank::world]:
        task, length, _, mode = checks[c]
        attention, _, styles = mode.partition("/")
        if task == "text":
            results.append((c, "direct", [(split, text_loss(model, maker.text(length, split, k), attention)) for split in ("check", "train")]))
            continue
        ids, qs = maker.make(task, length, k)
        cache = prefill(model, ids, attention) if qs else None
        for style in STYLES[styles] if qs else ():
            limit = (LIMIT[task] if not toy else 8) + (QUOTE_LIMIT if style == "quote" and not toy else 0)
            got = ask(model, cache, [q[1] + OPENING[style] for q in qs], limit, attention)
            pairs = [split_quote(tok, g, style) for g in got]
            results.append((c, style, [(q[0], answer, q[2], q[3], quote if style == "quote" else None) for q, (quote, answer) in zip(qs, pairs)]))
        del cache
    if world > 1:
        every = [None] * world
        dist.all_gather_object(every, results)
        results = sum(every, [])
    table = []
    for c, (task, length, n, mode) in enumerate(checks):
        attention, _, styles = mode.partition("/")
        for style in STYLES[styles]:
            rows = sum((x for d, s, x in results if (d, s) == (c, style)), [])
            name = attention if style == "direct" else attention + "/" + style
            table.append(dict(task=task, length=length, mode=name, haystacks=n, **summarise(task, rows)) if rows else None)
            if samples is not None:
                samples += [] if task == "text" else [(task, length, name) + tuple(r) for r in rows[:40]]
    model.compiled = compiled
    return table


def load_model(path, device):
    """A shipped folder (config.json and safetensors) or a checkpoint."""
    import checkpoint
    import export
    from config import Config
    from model import Model
    if os.path.isfile(os.path.join(path, "config.json")):
        return export.load(path, device)
    model = Model(Config())
    checkpoint.load(path, model)
    return model.to(device)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--corpus", required=True)
    ap.add_argument("--model", required=True)
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--checks", default="ship", help="a name in QUICK, or JSON")
    ap.add_argument("--fp8", action="store_true", help="round the matrices as the export does")
    ap.add_argument("--out", default="")
    args = ap.parse_args()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    if world > 1:
        dist.init_process_group("nccl")
    model = load_model(args.model, device)
    if args.fp8:
        import export
        export.round_model(model)
    if device == "cuda":
        model.dtype = torch.bfloat16
    checks = QUICK[args.checks] if args.checks in QUICK else json.loads(args.checks)
    samples = []
    table = run(model, tk.load(args.tokenizer), args.corpus, checks, rank, world, samples=samples)
    if rank == 0:
        for row in table:
            print(json.dumps(row))
        if args.out:
            json.dump({"model": args.model, "fp8": args.fp8, "table": table, "samples": samples}, open(args.out, "w"), indent=0)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
