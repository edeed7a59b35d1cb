"""Selection and attention over what was selected, with the indexer's two losses.

On a GPU the work goes to kernels (kernels.py, topk.cu); elsewhere to the plain
PyTorch below, which is also what the kernels are checked against.
Row indices are global over the flat batch; -1 marks an unused slot.
"""
import torch
import torch.nn.functional as F


def index_scores(iq, ik, iw):
    """iq [R, heads, dim], ik [S, dim], iw [R, heads] -> [R, S] fp32."""
    s = torch.einsum("rhd,sd->rhs", iq.float(), ik.float())
    return torch.einsum("rhs,rh->rs", F.relu(s), iw)


def select_plain(iq, ik, iw, batch, topk, chunk=512):
    n = iq.shape[0]
    t = n // batch
    out = torch.full((n, topk), -1, dtype=torch.int32, device=iq.device)
    for b in range(batch):
        for lo in range(0, t, chunk):
            hi = min(lo + chunk, t)
            rows = slice(b * t + lo, b * t + hi)
            s = index_scores(iq[rows], ik[b * t:b * t + hi], iw[rows])
            pos = torch.arange(lo, hi, device=iq.device)
            s = s.masked_fill(torch.arange(hi, device=iq.device)[None] > pos[:, None], float("-inf"))
            k = min(topk, hi)
            v, i = s.topk(k, dim=-1)
            out[rows, :k] = torch.where(v > float("-inf"), i + b * t, torch.full_like(i, -1)).int()
    return out


def attend_plain(q, kv, idx, lora, scale):
    """q [N, heads, lora+rope], kv [N, lora+rope], idx [N, k] -> [N, heads, lora]."""
    g = kv[idx.clamp(min=0).long()]
    s = torch.einsum("nhd,nkd->nhk", q, g).float() * scale
    p = s.masked_fill((idx < 0)[:, None], float("-inf")).softmax(-1).to(q.dtype)
    return torch.einsum("nhk,nkd->nhd", p, g[..., :lora])


def select(iq, ik, iw, batch, topk):
    if iq.is_cuda:
        import kernels
        return kernels.select(iq, ik, iw, batch, topk)
    return select_plain(iq, ik, iw, batch, topk)


def attend(q, kv, idx, lora, scale):
    if q.is_cuda and q.dtype == torch.bfloat16:
        import kernels
        return kernels.Attend.apply(q, kv, idx, lora, scale)
    if q.shape[0] > 4096:
        return torch.cat([attend_plain(q[i:i + 4096], kv, idx[i:i + 4096], lora, scale)
                          for i in range(0, q.shape[0], 4096)])
    return attend_plain(q, kv, idx, lora, scale)


def kl(p, scores, mask):
    """Mean over rows of KL(p || softmax(scores)), both over the unmasked slots; p sums to 1."""
    logq = scores.masked_fill(mask, float("-inf")).log_softmax(-1).masked_fill(mask, 0.0)
    logp = p.clamp(min=1e-9).log()
    return (p * (logp - logq)).masked_fill(mask, 0.0).sum(-1).mean()


def selected_kl(parts, idx, rows, scale):
    """Indexer loss of sparse training: sampled rows, over their selected set, targets from the sparse attention."""
    q, kv, iq, ik, iw = parts
    idx = idx[rows]
    mask, flat = idx < 0, idx.clamp(min=0).long().flatten()
    r, k = idx.shape
    with torch.no_grad():
        g = kv.index_select(0, flat).view(r, k, -1)
        s = torch.einsum("rhd,rkd->rhk", q[rows], g).float() * scale
        p = s.masked_fill(mask[:, None], float("-inf")).softmax(-1).mean(1)
    gk = ik.index_select(0, flat).view(r, k, -1)
    s = F.relu(torch.einsum("rhd,rkd->rhk", iq.index_select(0, rows), gk).float())
    return kl(p, torch.einsum("rhk,rh->rk", s, iw.index_select(0, rows)), mask)


def dense_kl(layer, x, cos, sin, batch, rows):
    """Indexer loss of the warm-up: sampled rows [B, R] against dense attention over all earlier keys."""
    n = x.shape[0]
    t = n // batch
    with torch.no_grad():
        h = layer.input_layernorm(x)
        at = layer.self_attn
        qr, q_nope, q_pe, latent, k_pe = at.project(h, cos, sin)
        w_uk, _ = at.kv_b_parts(x.dtype)
        kv = torch.cat([latent, k_pe.squeeze(1)], -1).view(batch, t, -1)
    iq, ik, iw = at.indexer(h, qr, cos, sin)
    total = 0.0
    for b in range(batch):
        r = rows[b]
        mask = torch.arange(t, device=x.device)[None] > r[:, None]
        with torch.no_grad():
            q = torch.cat([torch.einsum("nhd,hdc->nhc", q_nope[b * t + r], w_uk), q_pe[b * t + r]], -1)
            s = torch.einsum("rhd,sd->rhs", q, kv[b]).float() * layer.cfg.scale
            p = s.masked_fill(mask[:, None], float("-inf")).softmax(-1).mean(1)
        s = F.relu(torch.einsum("rhd,sd->rhs", iq[b * t + r], ik[b * t:(b + 1) * t]).float())
        total = total + kl(p, torch.einsum("rhs,rh->rs", s, iw[b * t + r]), mask)
    return total / batch
