"""GPU kernels of sparse training: streamed index scores, radix top-k, attention over gathered latents.

Each has a plain counterpart in sparse.py; check() holds them together and is
run before any training on a GPU.
"""
import ctypes
import os
import subprocess

import torch
import triton
import triton.language as tl

import sparse

HERE = os.path.dirname(os.path.abspath(__file__))
CHUNK_BYTES = 1 << 30  # of scores held at once


@triton.jit
def scores_kernel(Q, K, W, OUT, first, ld, rows,
                  H: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    m, n = tl.program_id(1), tl.program_id(0)
    if n * BN > first + m * BM + BM - 1:
        return
    r = m * BM + tl.arange(0, BM)
    c = n * BN + tl.arange(0, BN)
    d = tl.arange(0, D)
    k = tl.load(K + c[:, None] * D + d[None, :], mask=(c < first + rows)[:, None], other=0.0)
    acc = tl.zeros([BM, BN], tl.float32)
    for h in tl.static_range(H):
        q = tl.load(Q + (r[:, None] * H + h) * D + d[None, :], mask=(r < rows)[:, None], other=0.0)
        w = tl.load(W + r * H + h, mask=r < rows, other=0.0)
        s = tl.dot(q, tl.trans(k))
        acc += tl.maximum(s, 0.0) * w[:, None]
    tl.store(OUT + r[:, None].to(tl.int64) * ld + c[None, :], acc, mask=(r < rows)[:, None] & (c < ld)[None, :])


_lib = None


def library():
    """topk.cu, built once a machine with the CUDA compiler."""
    global _lib
    if _lib is None:
        so = os.environ.get("PHAROS_TOPK_SO", "/tmp/pharos_topk.so")
        src = os.path.join(HERE, "topk.cu")
        if not os.path.exists(so) or os.path.getmtime(so) < os.path.getmtime(src):
            part = f"{so}.{os.getpid()}"
            subprocess.run(["nvcc", "-O3", "-gencode=arch=compute_90,code=sm_90", "-shared", "-Xcompiler", "-fPIC",
                            "-o", part, src], check=True)
            os.replace(part, so)
        _lib = ctypes.CDLL(so)
        p, i = ctypes.c_void_p, ctypes.c_int
        _lib.pharos_topk.argtypes = [p, ctypes.c_longlong, i, i, i, i, p, p]
    return _lib


def select(iq, ik, iw, batch, topk):
    lib = library()
    iq, ik, iw = iq.to(torch.bfloat16).contiguous(), ik.to(torch.bfloat16).contiguous(), iw.float().contiguous()
    n, heads, dim = iq.shape
    t = n // batch
    ld = (t + 127) // 128 * 128
    rows = min(t, max(64, CHUNK_BYTES // (4 * ld) // 64 * 64))
    buf = torch.empty(rows, ld, dtype=torch.float32, device=iq.device)
    out = torch.empty(n, topk, dtype=torch.int32, device=iq.device)
    stream = torch.cuda.current_stream().cuda_stream
    bm, bn = 64, 128
    for b in range(batch):
        for lo in range(0, t, rows):
            r = min(rows, t - lo)
            at = b * t + lo
            grid = (triton.cdiv(lo + r, bn), triton.cdiv(r, bm))
            scores_kernel[grid](iq[at:at + r], ik[b * t:], iw[at:at + r], buf, lo, ld, r,
                                H=heads, D=dim, BM=bm, BN=bn, num_warps=8, num_stages=1)
            err = lib.pharos_topk(buf.data_ptr(), ld, r, lo, topk, b * t, out[at:].data_ptr(), stream)
            if err:
                raise RuntimeError(f"pharos_topk: CUDA error {err}")
    return out


@triton.jit
def attend_kernel(Q, KV, IDX, OUT, LSE, scale, H: tl.constexpr, HP: tl.constexpr,
                  C: tl.constexpr, R: tl.constexpr, K: tl.constexpr, BK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    h, c, r, j = tl.arange(0, HP), tl.arange(0, C), tl.arange(0, R), tl.arange(0, BK)
    live = (h < H)[:, None]
    qb = Q + row * H * (C + R) + h[:, None] * (C + R)
    ql = tl.load(qb + c[None, :], mask=live, other=0.0)
    qr = tl.load(qb + C + r[None, :], mask=live, other=0.0)
    top = tl.full([HP], -1e30, tl.float32)
    den = tl.zeros([HP], tl.float32)
    acc = tl.zeros([HP, C], tl.float32)
    for k0 in range(0, K, BK):
        i = tl.load(IDX + row * K + k0 + j)
        ok = i >= 0
        i = tl.maximum(i, 0).to(tl.int64)
        kl = tl.load(KV + i[:, None] * (C + R) + c[None, :])
        kr = tl.load(KV + i[:, None] * (C + R) + C + r[None, :])
        s = (tl.dot(ql, tl.trans(kl)) + tl.dot(qr, tl.trans(kr))) * scale
        s = tl.where(ok[None, :], s, -1e30)
        new = tl.maximum(top, tl.max(s, 1))
        p = tl.where(ok[None, :], tl.exp(s - new[:, None]), 0.0)
        keep = tl.exp(top - new)
        den = den * keep + tl.sum(p, 1)
        acc = acc * keep[:, None] + tl.dot(p.to(kl.dtype), kl)
        top = new
    tl.store(OUT + row * H * C + h[:, None] * C + c[None, :], (acc / den[:, None]).to(OUT.dtype.element_ty), mask=live)
    tl.store(LSE + row * H + h, top + tl.log(den), mask=h < H)


@triton.jit
def attend_backward_kernel(Q, KV, IDX, OUT, LSE, DOUT, DQ, DKV, scale, H: tl.constexpr, HP: tl.constexpr,
                           C: tl.constexpr, R: tl.constexpr, K: tl.constexpr, BK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    h, c, r, j = tl.arange(0, HP), tl.arange(0, C), tl.arange(0, R), tl.arange(0, BK)
    live = (h < H)[:, None]
    qb = Q + row * H * (C + R) + h[:, None] * (C + R)
    ql = tl.load(qb + c[None, :], mask=live, other=0.0)
    qr = tl.load(qb + C + r[None, :], mask=live, other=0.0)
    o = tl.load(OUT + row * H * C + h[:, None] * C + c[None, :], mask=live, other=0.0)
    do = tl.load(DOUT + row * H * C + h[:, None] * C + c[None, :], mask=live, other=0.0)
    lse = tl.load(LSE + row * H + h, mask=h < H, other=1e30)
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    dql = tl.zeros([HP, C], tl.float32)
    dqr = tl.zeros([HP, R], tl.float32)
    for k0 in range(0, K, BK):
        i = tl.load(IDX + row * K + k0 + j)
        ok = i >= 0
        i = tl.maximum(i, 0).to(tl.int64)
        kl = tl.load(KV + i[:, None] * (C + R) + c[None, :])
        kr = tl.load(KV + i[:, None] * (C + R) + C + r[None, :])
        s = (tl.dot(ql, tl.trans(kl)) + tl.dot(qr, tl.trans(kr))) * scale
        p = tl.where(ok[None, :], tl.exp(s - lse[:, None]), 0.0)
        ds = p * (tl.dot(do, tl.trans(kl)) - delta[:, None]) * scale
        pb, dsb = p.to(kl.dtype), ds.to(kl.dtype)
        dql += tl.dot(dsb, kl)
        dqr += tl.dot(dsb, kr)
        dkl = tl.dot(tl.trans(dsb), ql) + tl.dot(tl.trans(pb), do)
        dkr = tl.dot(tl.trans(dsb), qr)
        tl.atomic_add(DKV + i[:, None] * (C + R) + c[None, :], dkl, mask=ok[:, None], sem="relaxed")
        tl.atomic_add(DKV + i[:, None] * (C + R) + C + r[None, :], dkr, mask=ok[:, None], sem="relaxed")
    db = DQ + row * H * (C + R) + h[:, None] * (C + R)
    tl.store(db + c[None, :], dql.to(DQ.dtype.element_ty), mask=live)
    tl.store(db + C + r[None, :], dqr.to(DQ.dtype.element_ty), mask=live)


class Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, kv, idx, lora, scale):
        q, kv = q.contiguous(), kv.contiguous()
        n, heads, dim = q.shape
        out = torch.empty(n, heads, lora, dtype=q.dtype, device=q.device)
        lse = torch.empty(n, heads, dtype=torch.float32, device=q.device)
        ctx.shape = dict(H=heads, HP=max(16, heads), C=lora, R=dim - lora, K=idx.shape[1], BK=64)
        attend_kernel[(n,)](q, kv, idx, out, lse, scale, **ctx.shape, num_warps=4, num_stages=2)
        ctx.save_for_backward(q, kv, idx, out, lse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx, dout):
        q, kv, idx, out, lse = ctx.saved_tensors
        dq = torch.empty_like(q)
        dkv = torch.zeros(kv.shape, dtype=torch.float32, device=kv.device)
        attend_backward_kernel[(q.shape[0],)](q, kv, idx, out, lse, dout.contiguous(), dq, dkv, ctx.scale,
                                              **ctx.shape, num_warps=4, num_stages=1)
        return dq, dkv.to(kv.dtype), None, None, None


def check(device="cuda", seed=0):
    """Worst relative errors of the kernels against sparse.py, and the share of equal selections."""
    g = torch.Generator(device=device).manual_seed(seed)
    rand = lambda *s: torch.randn(*s, generator=g, device=device)
    out = {}
    for batch, t, topk in ((2, 1000, 128), (1, 9000, 512)):
        n = batch * t
        iq, ik, iw = rand(n, 4, 64).bfloat16(), rand(n, 64).bfloat16(), rand(n, 4)
        a = select(iq, ik, iw, batch, topk).sort(-1).values
        b = sparse.select_plain(iq, ik, iw, batch, topk).sort(-1).values
        assert a.max() < n and (a[:, 1:] > a[:, :-1]).logical_or(a[:, 1:] < 0).all(), "repeated position"
        out[f"select_equal_{t}"] = (a == b).all(-1).float().mean().item()
        q, kv = (rand(n, 8, 160) * 0.5).bfloat16(), rand(n, 160).bfloat16()
        grads = []
        for f, kind in ((lambda *x: Attend.apply(*x), torch.bfloat16), (sparse.attend_plain, torch.float32)):
            rows = slice(n - 512, n)
            qq, kk = q[rows].detach().to(kind).clone().requires_grad_(), kv.detach().to(kind).clone().requires_grad_()
            o = f(qq, kk, b[rows].int().contiguous(), 128, 96 ** -0.5)
            o.backward(torch.sin(torch.arange(o.numel(), device=device).view(o.shape).float()).to(kind))
            grads.append((o.float(), qq.grad.float(), kk.grad.float()))
        for name, x, y in zip(("out", "dq", "dkv"), *grads):
            out[f"{name}_{t}"] = ((x - y).norm() / y.norm()).item()
    return out


def timed(f, n=3):
    f()
    torch.cuda.synchronize()
    a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    a.record()
    for _ in range(n):
        f()
    b.record()
    torch.cuda.synchronize()
    return round(a.elapsed_time(b) / n, 2)


def bench(lengths=(8192, 32768, 131072), n=131072):
    """Milliseconds a layer at `n` tokens: selection, attention forward, forward and backward; dense attention beside."""
    from model import dense_attention
    rows = []
    for t in lengths:
        b = n // t
        iq, ik, iw = (torch.randn(n, 4, 64, device="cuda").bfloat16(), torch.randn(n, 64, device="cuda").bfloat16(), torch.randn(n, 4, device="cuda"))
        q, kv = torch.randn(n, 8, 160, device="cuda").bfloat16().requires_grad_(), torch.randn(n, 160, device="cuda").bfloat16().requires_grad_()
        idx = select(iq, ik, iw, b, 512)
        row = {"length": t, "select": timed(lambda: select(iq, ik, iw, b, 512)),
               "attend": timed(lambda: Attend.apply(q.detach(), kv.detach(), idx, 128, 0.1))}
        row["attend+backward"] = timed(lambda: Attend.apply(q, kv, idx, 128, 0.1).backward(torch.ones(n, 8, 128, device="cuda").bfloat16()))
        d = [torch.randn(n, 8, w, device="cuda").bfloat16().requires_grad_() for w in (96, 96, 64)]
        row["dense+backward"] = timed(lambda: dense_attention(*d, b, 0.1).sum().backward(), 1)
        rows.append(row)
    return rows


if __name__ == "__main__":
    import json
    print(json.dumps(check()))
    for row in bench():
        print(json.dumps(row))
