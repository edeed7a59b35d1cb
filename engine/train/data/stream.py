"""Batches ahead of the trainer: item i of a stage depends on (seed, stage, rank, i) alone."""
import gc
import os

import numpy as np
import torch

import tokenizer as tk
from .corpus import opened
from .packs import Builder


class Batches(torch.utils.data.Dataset):
    """Map-style and endless: item i is one micro-batch (ids int32, classes uint8, positions int32), each [rows, length]."""

    def __init__(self, corpus_dir, tok_dir, key, plan, mix=None):
        """plan(i) -> (rows, length); key seeds every sample; mix as Builder has it. What is read is read here: workers share it."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self.key, self.plan, self.builder = key, plan, Builder(opened(corpus_dir), tk.load(tok_dir), mix=mix)

    def __len__(self):
        return 1 << 30

    def __getitem__(self, i):
        rows, length = self.plan(i)
        out = [self.builder.sample(f"{self.key}/{i}/{j}", length) for j in range(rows)]
        return tuple(torch.from_numpy(np.stack([o[k] for o in out]).astype(t))
                     for k, t in ((0, np.int32), (1, np.uint8), (2, np.int32)))


def loader(corpus_dir, tok_dir, key, plan, workers, start=0, mix=None):
    data = Batches(corpus_dir, tok_dir, key, plan, mix)
    if not workers:
        return (data[i] for i in range(start, 1 << 30))
    gc.freeze()  # no collection in a worker touches, and so copies, the pages it shares
    order = range(start, 1 << 30)
    return iter(torch.utils.data.DataLoader(data, batch_size=None, sampler=order, num_workers=workers,
                                            prefetch_factor=4, pin_memory=torch.cuda.is_available()))
