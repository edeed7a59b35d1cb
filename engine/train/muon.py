"""Muon for the layer matrices, AdamW for the rest, in one optimizer.

Muon's update is the orthogonalised momentum (five Newton-Schulz steps in
bf16), scaled to the size of an AdamW update so that both share a learning
rate. Matrices of one shape are worked on as one batch.
"""
import torch


def orthogonalise(g, steps=5):
    """g [n, a, b] -> nearly semi-orthogonal, in bf16 on a GPU."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16() if g.is_cuda else g.float()
    flip = x.shape[-2] > x.shape[-1]
    if flip:
        x = x.transpose(-1, -2)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.transpose(-1, -2)
        x = a * x + (b * s + c * (s @ s)) @ x
    return x.transpose(-1, -2) if flip else x


class Optimizer:
    def __init__(self, named, muon=True, betas=(0.9, 0.95), momentum=0.95, decay=0.05):
        self.betas, self.momentum, self.decay, self.steps = betas, momentum, decay, 0
        named = list(named)
        is_matrix = lambda n, p: muon and p.dim() == 2 and "embed" not in n and "weights_proj" not in n
        self.groups = {}
        for n, p in named:
            if is_matrix(n, p):
                self.groups.setdefault(tuple(p.shape), []).append((n, p))
        self.plain = [(n, p) for n, p in named if not is_matrix(n, p)]
        self.state = {n: torch.zeros_like(p) for n, p in named}
        self.second = {n: torch.zeros_like(p) for n, p in self.plain}

    def params(self):
        return [p for g in self.groups.values() for _, p in g] + [p for _, p in self.plain]

    @torch.no_grad()
    def step(self, lr, index_lr=None):
        """index_lr, where given, is for the parameters of the indexers."""
        self.steps += 1
        rate = lambda n: index_lr if index_lr is not None and "indexer" in n else lr
        for shape, group in self.groups.items():
            grads, moms = [p.grad for _, p in group], [self.state[n] for n, _ in group]
            torch._foreach_mul_(moms, self.momentum)
            torch._foreach_add_(moms, grads, alpha=1 - self.momentum)
            u = torch.stack([g.lerp(m, self.momentum) for g, m in zip(grads, moms)])
            u = orthogonalise(u).float() * (0.2 * max(shape) ** 0.5)
            for (n, p), d in zip(group, u):
                p.mul_(1 - rate(n) * self.decay).add_(d, alpha=-rate(n))
        if not self.plain:
            return
        b1, b2 = self.betas
        c1, c2 = 1 - b1 ** self.steps, 1 - b2 ** self.steps
        for n, p in self.plain:
            m, v = self.state[n], self.second[n]
            m.lerp_(p.grad, 1 - b1)
            v.mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
            if p.dim() == 2:
                p.mul_(1 - rate(n) * self.decay)
            p.addcdiv_(m / c1, (v / c2).sqrt().add_(1e-8), value=-rate(n))

    def state_dict(self):
        return {"steps": self.steps, "first": self.state, "second": self.second}

    def load_state_dict(self, d):
        self.steps = d["steps"]
        for mine, theirs in ((self.state, d["first"]), (self.second, d["second"])):
            for n in mine:
                if n in theirs:
                    mine[n].copy_(theirs[n])
