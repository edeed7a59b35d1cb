"""Trains the reader model through the stages of a recipe: dense, indexer warm-up, sparse.

    python3 train.py --corpus CORPUS --tokenizer DIR --into RUN [--recipe recipe.json] [--stages a,b] [--resume CKPT]
    torchrun --nproc-per-node 2 train.py ...          the same on two GPUs: twice the tokens a step
    python3 train.py --toy --corpus CORPUS --into RUN  every stage at toy size on a CPU

RUN receives log.jsonl (curves and check figures), last.pt and compact/ (pieces that travel) after each stage,
and newest/ (pieces as well) every minute or as recipe["keep"] says. A stage ends after its `tokens` or its `seconds`, whichever comes first, and its learning
rate runs along that. A file RUN/next ends the running stage at its next look, RUN/stop the run after the stage; RUN/recipe.json,
where present, replaces the settings of stages that have not begun. A stage with "local": SECONDS lets each GPU go its own way and puts the mean
of all GPUs' weights in their place after so many seconds and at its end: what each has learnt by heart differs, what they share stays.
"""
import argparse
import json
import os
import random
import threading
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F

import checkpoint
import evaluate
import export
import sparse
import tokenizer as tk
from config import Config, toy_config
from data import packs
from data.stream import loader
from model import Model
from muon import Optimizer

CLASSES = (("answer", packs.ANSWER), ("reading", packs.READING), ("evidence", packs.EVIDENCE), ("text", packs.TEXT), ("question", packs.QUESTION))
KIND_PARAMS = {"dense": lambda n: "indexer" not in n, "warm": lambda n: "indexer" in n, "sparse": lambda n: True}


def token_losses(hidden, weight, targets):
    return F.cross_entropy(F.linear(hidden, weight.to(hidden.dtype)).float(), targets, reduction="none")


class Trainer:
    def __init__(self, args, recipe):
        self.args, self.recipe = args, recipe
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.cuda = torch.cuda.is_available() and not args.toy
        if self.cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        self.device = "cuda" if self.cuda else "cpu"
        if self.world > 1:
            dist.init_process_group("nccl" if self.cuda else "gloo")
        self.tok = tk.load(args.tokenizer)
        self.model = Model(toy_config() if args.toy else Config(vocab_size=self.tok.vocab_size))
        self.model.init_weights(recipe["seed"])
        self.opt_state, self.progress = None, {"stage": 0, "tokens": {}}
        if args.weights:
            self.model.load_state_dict(export.load(args.weights).state_dict())
        if args.resume:
            self.opt_state, self.progress = checkpoint.load(args.resume, self.model)
        self.model.to(self.device)
        if self.cuda:
            self.model.dtype = torch.bfloat16
        self.losses = token_losses
        if self.cuda and not args.no_compile:
            torch._dynamo.config.cache_size_limit = 64
            self.model.use_compile()
            self.losses = torch.compile(token_losses, dynamic=False)
        self.start, self.ahead = time.time(), None
        self.kept, self.writer = self.start, None
        os.makedirs(args.run, exist_ok=True)

    def log(self, **row):
        if self.rank == 0:
            row = {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}
            row["t"] = round(time.time() - self.start, 1)
            with open(os.path.join(self.args.run, "log.jsonl"), "a") as f:
                f.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)

    def average_grads(self, params):
        if self.world > 1:
            flat = torch._utils._flatten_dense_tensors([p.grad for p in params])
            dist.all_reduce(flat, op=dist.ReduceOp.SUM)
            flat.div_(self.world)
            for p, g in zip(params, torch._utils._unflatten_dense_tensors(flat, [p.grad for p in params])):
                p.grad.copy_(g)

    @torch.no_grad()
    def average_weights(self):
        """The mean of all ranks' weights in the place of each."""
        if self.world > 1:
            for p in self.model.parameters():
                dist.all_reduce(p.data, op=dist.ReduceOp.SUM)
                p.data.div_(self.world)

    def agree(self, share):
        """Rank 0's share of the stage, for every rank; 1 once RUN/next is there."""
        path = os.path.join(self.args.run, "next")
        if self.rank == 0 and os.path.exists(path):
            os.remove(path)
            share = 1.0
        share = torch.tensor([share], device=self.device)
        if self.world > 1:
            dist.broadcast(share, 0)
        return share.item()

    # one step of each kind: returns (loss, figures to log) -----------------------

    def language_loss(self, hidden, ids, cls, stage):
        """Answers and a sample of the text: mean loss of each class, weighed; at most half of all rows are scored."""
        want = F.pad(cls[:, 1:], (0, 1)).reshape(-1)
        goal = F.pad(ids[:, 1:], (0, 1)).reshape(-1)
        chance = torch.rand(want.shape, device=want.device)
        chance += (want >= packs.ANSWER) * 4.0 + (want == packs.QUESTION) * 2.0 + (want == packs.TEXT) * 1.0
        n = want.numel()
        rows = chance.topk(n // 2 if n <= 65536 else n // 4).indices if n > 16384 else torch.arange(n, device=want.device)
        each = self.losses(hidden.index_select(0, rows), self.model.embed_tokens.weight, goal[rows])
        kind = want[rows]
        mean = {}
        for name, c in CLASSES:
            m = (kind == c).float()
            mean[name] = (each * m).sum() / m.sum().clamp(min=1)
        m = (kind == packs.EVIDENCE).float() * (cls.reshape(-1)[rows] != packs.EVIDENCE)  # where a quote begins, or that there is none
        mean["locate"] = (each * m).sum() / m.sum().clamp(min=1)
        weight = {"answer": 1.0, "reading": stage.get("reading", 1.0), "evidence": stage.get("evidence", 1.0), "locate": stage.get("locate", 0.3),
                  "text": stage["text"], "question": 0.1}
        return sum(w * mean[name] for name, w in weight.items()), mean

    def dense_step(self, ids, cls, pos, stage):
        return self.language_loss(self.model.dense(ids, pos), ids, cls, stage)

    def warm_step(self, ids, cls, pos, stage):
        b, t = ids.shape
        n_rows = min(t, stage.get("rows", 192))
        rows = torch.randint(0, t, (b, n_rows), device=ids.device)
        answers = torch.rand(b, t, device=ids.device) + (cls >= packs.QUESTION)
        rows[:, :n_rows // 3] = answers.topk(n_rows // 3).indices
        losses = []

        def look(i, layer, x, cos, sin):
            with torch.enable_grad():
                losses.append(sparse.dense_kl(layer, x, cos, sin, b, rows))
                losses[-1].backward()

        with torch.no_grad():
            self.model.dense(ids, pos, each_layer=look)
        kl = torch.stack([x.detach() for x in losses]).mean()
        return None, {"kl": kl}

    def sparse_step(self, ids, cls, pos, stage):
        n = ids.numel()
        want = torch.rand(n, device=ids.device) + (cls.reshape(-1) >= packs.QUESTION) * 0.1
        rows = want.topk(min(n, stage.get("rows", 1024))).indices
        kls = []
        hidden = self.model.sparse(ids, pos, each_layer=lambda i, parts, idx: kls.append(
            sparse.selected_kl(parts, idx, rows, self.model.cfg.scale)))
        loss, mean = self.language_loss(hidden, ids, cls, stage)
        kl = torch.stack(kls).mean()
        mean["kl"] = kl
        return loss + kl * len(kls), mean

    # stages ------------------------------------------------------------------------

    def batches(self, stage):
        """The loader of a stage, its workers started."""
        lengths, micro = stage["lengths"], stage.get("micro", self.recipe["sparse_tokens" if stage["kind"] == "sparse" else "dense_tokens"])
        plan = lambda i: (max(1, micro // lengths[i % len(lengths)]), lengths[i % len(lengths)])
        return iter(loader(self.args.corpus, self.args.tokenizer, f"{self.recipe['seed']}/{stage['name']}/{self.rank}", plan, self.args.workers,
                           mix=stage.get("mix")))

    def run_stage(self, number, stage, after=None):
        """after: the stage that follows; its first batches are made while this one is evaluated."""
        kind = stage["kind"]
        named = [(n, p) for n, p in self.model.named_parameters() if KIND_PARAMS[kind](n)]
        params = [p for _, p in named]
        opt = Optimizer(named, muon=stage.get("muon", True), decay=stage.get("decay", 0.1))
        if self.opt_state:
            opt.load_state_dict(self.opt_state)
        for n, p in self.model.named_parameters():
            p.requires_grad_(KIND_PARAMS[kind](n))
            p.grad = None
        self.model.set_dropout(stage.get("dropout", 0.0))
        compiled = self.model.compiled
        if kind == "warm":  # without gradients the compiled halves would be compiled anew
            self.model.compiled = {}
        step_fn = {"dense": self.dense_step, "warm": self.warm_step, "sparse": self.sparse_step}[kind]
        batches, self.ahead = self.ahead or self.batches(stage), None
        done, step, sums, count = self.progress["tokens"].get(stage["name"], 0), 0, {}, 0
        tick, tick_tokens = time.time(), done
        begin, share, waited, met = tick, done / stage["tokens"], 0.0, 0
        while True:
            asked = time.time()
            ids, cls, pos = next(batches)
            waited += time.time() - asked
            ids, cls, pos = (x.to(self.device, non_blocking=True) for x in (ids, cls, pos))
            lr = stage["lr"][0] + (stage["lr"][1] - stage["lr"][0]) * share
            lr *= min(1.0, (step + 1) / stage.get("warmup", 50))
            loss, figures = step_fn(ids.long(), cls, pos, stage)
            if loss is not None:
                loss.backward()
            if not stage.get("local"):
                self.average_grads(params)
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            opt.step(lr, index_lr=stage.get("index_lr", lr))
            for p in params:
                p.grad = None
            step += 1
            done += ids.numel() * self.world
            for k, v in figures.items():
                sums[k] = sums.get(k, 0.0) + v.detach()
            count += 1
            every = stage.get("log_every", 40 if kind == "dense" else 10)
            if step % every == 0 or done >= stage["tokens"]:
                figures = {k: float(v) / count for k, v in sums.items()}
                now = time.time()
                self.log(stage=stage["name"], step=step, tokens=done, lr=lr, rate=(done - tick_tokens) / (now - tick),
                         waited=waited / (now - tick), **figures)
                sums, count, tick, tick_tokens, waited = {}, 0, now, done, 0.0
                if not stage.get("local"):
                    self.keep(number, stage, done, now)
                share = self.agree(min(1.0, max(done / stage["tokens"], (now - begin) / stage.get("seconds", 1e9))))
                if stage.get("local") and (share >= 1.0 or int(share * stage["seconds"] / stage["local"]) > met):
                    met = int(share * stage["seconds"] / stage["local"])
                    self.average_weights()
                    self.keep(number, stage, done, now)
                if share >= 1.0:
                    break
        del batches
        self.model.compiled = compiled
        state = opt.state_dict()
        old = self.opt_state or {"first": {}, "second": {}}
        self.opt_state = {"steps": state["steps"], **{k: {**old[k], **state[k]} for k in ("first", "second")}}
        self.progress["tokens"][stage["name"]] = done
        self.progress["stage"] = number + 1
        self.wait()  # no thread is writing while the loader's processes are forked
        self.ahead = self.batches(self.newest(after)) if after else None
        self.save()
        self.evaluate(stage)

    def save(self):
        """last.pt and compact/ of what is there now, written by a thread while the checks run."""
        if self.rank:
            return
        self.wait()
        copy = lambda d: {n: x.detach().to("cpu", copy=True) for n, x in d.items()}
        weights, progress = copy(self.model.state_dict()), json.loads(json.dumps(self.progress))
        state = {"steps": self.opt_state["steps"], "first": copy(self.opt_state["first"]), "second": copy(self.opt_state["second"])}
        self.kept = time.time()

        def write():
            checkpoint.write_compact(os.path.join(self.args.run, "compact"), weights, progress)
            checkpoint.write_full(os.path.join(self.args.run, "last.pt"), weights, state, progress)

        self.writer = threading.Thread(target=write)
        self.writer.start()

    def wait(self):
        if self.writer:
            self.writer.join()

    def keep(self, number, stage, done, now):
        """Every recipe["keep"] seconds: the weights as they are, in the compact form, written by a thread while training goes on."""
        if self.rank or now - self.kept < self.recipe.get("keep", 60) or (self.writer and self.writer.is_alive()):
            return
        self.kept = now
        weights = {n: p.detach().to(torch.bfloat16).cpu() for n, p in self.model.state_dict().items()}
        progress = {"stage": number, "tokens": dict(self.progress["tokens"], **{stage["name"]: done})}
        self.writer = threading.Thread(target=checkpoint.write_compact, args=(os.path.join(self.args.run, "newest"), weights, progress))
        self.writer.start()

    def evaluate(self, stage):
        if not stage.get("check", True):
            return
        self.model.set_dropout(0.0)
        if stage.get("rounded"):  # the last stage: what is checked are the weights as they will be shipped
            export.round_model(self.model)
        table = evaluate.run(self.model, self.tok, self.args.corpus, stage.get("checks") or evaluate.QUICK[stage["kind"]],
                             self.rank, self.world, toy=self.args.toy)
        self.log(checks=table, after=stage["name"])

    def newest(self, stage):
        """A stage's settings as RUN/recipe.json has them, where it is there."""
        override = os.path.join(self.args.run, "recipe.json")
        if stage and os.path.exists(override):
            return {s["name"]: s for s in json.load(open(override))["stages"]}.get(stage["name"], stage)
        return stage

    def run(self):
        names = self.args.stages.split(",") if self.args.stages else None
        todo = [(number, stage) for number, stage in enumerate(self.recipe["stages"])
                if not (names and stage["name"] not in names) and number >= self.progress["stage"]]
        for (number, stage), (_, after) in zip(todo, todo[1:] + [(None, None)]):
            self.run_stage(number, self.newest(stage), after)
            if self.agree(float(os.path.exists(os.path.join(self.args.run, "stop")))) >= 1.0:
                break
        self.wait()
        if self.world > 1:
            dist.barrier()
            dist.destroy_process_group()


def toy_recipe(recipe):
    """Every stage for a few steps on a few hundred tokens."""
    recipe = dict(recipe, dense_tokens=1024, sparse_tokens=1024)
    recipe["stages"] = [dict(s, lengths=[256 if s["kind"] == "dense" else 512], tokens=3 * 1024, micro=1024, rows=32, warmup=1, log_every=1, check=True)
                        for s in recipe["stages"]]
    seen = set()
    recipe["stages"] = [s for s in recipe["stages"] if not (s["kind"] in seen or seen.add(s["kind"]))]
    return recipe


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--corpus", required=True)
    ap.add_argument("--tokenizer", default="")
    ap.add_argument("--into", dest="run", required=True)
    ap.add_argument("--recipe", default=os.path.join(here, "recipe.json"))
    ap.add_argument("--stages", default="")
    ap.add_argument("--resume", default="")
    ap.add_argument("--weights", default="", help="begin from a shipped folder, with the stages named")
    ap.add_argument("--workers", type=int, default=0)
    ap.add_argument("--toy", action="store_true")
    ap.add_argument("--no-compile", action="store_true")
    args = ap.parse_args()
    recipe = json.load(open(args.recipe))
    if args.toy:
        recipe = toy_recipe(recipe)
    torch.manual_seed(recipe["seed"] * 1000 + int(os.environ.get("RANK", 0)))
    random.seed(recipe["seed"])
    Trainer(args, recipe).run()


if __name__ == "__main__":
    main()
