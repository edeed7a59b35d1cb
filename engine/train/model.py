"""The reader model in PyTorch: DeepSeek-V3.2 layers with dense MLPs, its state names those of the release.

Everything works on flat rows [N, hidden], N = batch * length, so that the two
compiled halves of a layer keep one shape for every sequence length. Attention
sits between the halves and comes in two forms: dense (expanded keys, causal
softmax over all) and sparse (absorbed queries over selected latents).
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

import sparse


class Linear(nn.Module):
    """A weight kept in fp32 and used in the dtype of its input."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))

    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return (y * self.weight).to(x.dtype)


def rope_tables(cfg, positions):
    """cos, sin [N, rope/2] in fp32 for integer positions [N]."""
    half = cfg.qk_rope_head_dim // 2
    inv = cfg.rope_theta ** (-torch.arange(half, device=positions.device, dtype=torch.float32) / half)
    angle = positions.reshape(-1, 1).float() * inv
    return angle.cos(), angle.sin()


def rope_pairs(x, cos, sin):
    """Interleaved rotation (pairs 2i, 2i+1) over the whole last dimension; x [N, heads, rope]."""
    a, b = x[..., 0::2].float(), x[..., 1::2].float()
    c, s = cos.unsqueeze(1), sin.unsqueeze(1)
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2).to(x.dtype)


def rope_halves(x, cos, sin):
    """Half-split rotation (pairs i, i+r/2) of the first r dims, the rest untouched; x [N, heads, dim]."""
    h = cos.shape[-1]
    a, b, rest = x[..., :h].float(), x[..., h:2 * h].float(), x[..., 2 * h:]
    c, s = cos.unsqueeze(1), sin.unsqueeze(1)
    return torch.cat([(a * c - b * s).to(x.dtype), (b * c + a * s).to(x.dtype), rest], -1)


class Indexer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.wq_b = Linear(cfg.q_lora_rank, cfg.index_n_heads * cfg.index_head_dim)
        self.wk = Linear(cfg.hidden_size, cfg.index_head_dim)
        self.k_norm = nn.LayerNorm(cfg.index_head_dim, eps=1e-6)
        self.weights_proj = Linear(cfg.hidden_size, cfg.index_n_heads)

    def forward(self, h, qr, cos, sin):
        """Index queries [N, heads, dim], keys [N, dim] and head weights [N, heads] (fp32, scaled)."""
        cfg = self.cfg
        q = self.wq_b(qr).view(-1, cfg.index_n_heads, cfg.index_head_dim)
        q = rope_halves(q, cos, sin)
        k = F.layer_norm(self.wk(h).float(), (cfg.index_head_dim,), self.k_norm.weight, self.k_norm.bias, 1e-6)
        k = rope_halves(k.to(h.dtype).unsqueeze(1), cos, sin).squeeze(1)
        w = F.linear(h.float(), self.weights_proj.weight.float())
        return q, k, w * (cfg.index_n_heads ** -0.5 * cfg.index_head_dim ** -0.5)


class Attention(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        h = cfg.num_attention_heads
        self.q_a_proj = Linear(cfg.hidden_size, cfg.q_lora_rank)
        self.q_a_layernorm = RMSNorm(cfg.q_lora_rank, 1e-6)
        self.q_b_proj = Linear(cfg.q_lora_rank, h * cfg.qk_head_dim)
        self.kv_a_proj_with_mqa = Linear(cfg.hidden_size, cfg.latent_dim)
        self.kv_a_layernorm = RMSNorm(cfg.kv_lora_rank, 1e-6)
        self.kv_b_proj = Linear(cfg.kv_lora_rank, h * (cfg.qk_nope_head_dim + cfg.v_head_dim))
        self.o_proj = Linear(h * cfg.v_head_dim, cfg.hidden_size)
        self.indexer = Indexer(cfg)

    def project(self, h, cos, sin):
        """qr [N, q_lora], q [N, heads, nope|rope], latent [N, kv_lora], k_pe [N, rope], all rotated."""
        cfg = self.cfg
        qr = self.q_a_layernorm(self.q_a_proj(h))
        q = self.q_b_proj(qr).view(-1, cfg.num_attention_heads, cfg.qk_head_dim)
        q_pe = rope_pairs(q[..., cfg.qk_nope_head_dim:], cos, sin)
        kv = self.kv_a_proj_with_mqa(h)
        latent = self.kv_a_layernorm(kv[:, :cfg.kv_lora_rank])
        k_pe = rope_pairs(kv[:, None, cfg.kv_lora_rank:], cos, sin)
        return qr, q[..., :cfg.qk_nope_head_dim], q_pe, latent, k_pe

    def kv_b_parts(self, dtype):
        """W_UK [heads, nope, kv_lora] and W_UV [heads, v, kv_lora]."""
        cfg = self.cfg
        w = self.kv_b_proj.weight.to(dtype).view(cfg.num_attention_heads, -1, cfg.kv_lora_rank)
        return w[:, :cfg.qk_nope_head_dim], w[:, cfg.qk_nope_head_dim:]


class MLP(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.gate_proj = Linear(cfg.hidden_size, cfg.intermediate_size)
        self.up_proj = Linear(cfg.hidden_size, cfg.intermediate_size)
        self.down_proj = Linear(cfg.intermediate_size, cfg.hidden_size)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.input_layernorm = RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)
        self.self_attn = Attention(cfg)
        self.post_attention_layernorm = RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)
        self.mlp = MLP(cfg)
        self.drop = 0.0  # share of a branch's output that is dropped before it joins the residual stream (training only)

    def joined(self, x, y):
        return x + (F.dropout(y, self.drop) if self.drop else y)

    def before_dense(self, x, cos, sin):
        """Expanded form: q, k [N, heads, nope+rope], v [N, heads, v]."""
        cfg, at = self.cfg, self.self_attn
        _, q_nope, q_pe, latent, k_pe = at.project(self.input_layernorm(x), cos, sin)
        kv = at.kv_b_proj(latent).view(-1, cfg.num_attention_heads, cfg.qk_nope_head_dim + cfg.v_head_dim)
        k = torch.cat([kv[..., :cfg.qk_nope_head_dim], k_pe.expand(-1, cfg.num_attention_heads, -1)], -1)
        return torch.cat([q_nope, q_pe], -1), k, kv[..., cfg.qk_nope_head_dim:].contiguous()

    def before_sparse(self, x, cos, sin):
        """Absorbed form: q [N, heads, kv_lora+rope], cache rows [N, kv_lora+rope], index q, k, w (input detached)."""
        at = self.self_attn
        h = self.input_layernorm(x)
        qr, q_nope, q_pe, latent, k_pe = at.project(h, cos, sin)
        w_uk, _ = at.kv_b_parts(x.dtype)
        q_lat = torch.einsum("nhd,hdc->nhc", q_nope, w_uk)
        index = at.indexer(h.detach(), qr.detach(), cos, sin)
        return (torch.cat([q_lat, q_pe], -1), torch.cat([latent, k_pe.squeeze(1)], -1)) + index

    def values(self, out_latent):
        """Attention output in latent space [N, heads, kv_lora] -> [N, heads * v]."""
        _, w_uv = self.self_attn.kv_b_parts(out_latent.dtype)
        return torch.einsum("nhc,hdc->nhd", out_latent, w_uv).flatten(1)

    def after_dense(self, x, a):
        x = self.joined(x, self.self_attn.o_proj(a))
        return self.joined(x, self.mlp(self.post_attention_layernorm(x)))

    def after_sparse(self, x, out_latent):
        return self.after_dense(x, self.values(out_latent))


def dense_attention(q, k, v, batch, scale):
    """Causal attention on flat [N, heads, dim] tensors of `batch` equal rows."""
    n, heads, _ = q.shape
    q, k, v = (t.view(batch, n // batch, heads, -1).transpose(1, 2) for t in (q, k, v))
    if hasattr(F, "scaled_dot_product_attention"):
        dv, dq = v.shape[-1], q.shape[-1]
        if q.is_cuda:  # the flash kernel wants equal head sizes
            v = F.pad(v, (0, dq - dv))
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)[..., :dv]
    else:
        t = q.shape[2]
        s = (q @ k.transpose(-1, -2)) * scale
        mask = torch.ones(t, t, dtype=torch.bool, device=q.device).tril()
        o = s.masked_fill(~mask, float("-inf")).softmax(-1) @ v
    return o.transpose(1, 2).reshape(n, -1)


class Model(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.embed_tokens = nn.Embedding(cfg.vocab_size, cfg.hidden_size)
        self.layers = nn.ModuleList(Layer(cfg) for _ in range(cfg.num_hidden_layers))
        self.norm = RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)
        self.dtype = torch.float32
        self.compiled = {}

    def init_weights(self, seed):
        g = torch.Generator().manual_seed(seed)
        depth = (2 * self.cfg.num_hidden_layers) ** -0.5
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = 0.02 if "embed" in name else p.shape[1] ** -0.5 * 0.7
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std *= depth
                with torch.no_grad():
                    p.copy_(torch.randn(p.shape, generator=g) * std)

    def set_dropout(self, share):
        """Dropout of every branch from now on; returns what it was."""
        before = self.layers[0].drop
        for layer in self.layers:
            layer.drop = share
        return before

    def use_compile(self):
        for name in ("before_dense", "before_sparse", "after_dense", "after_sparse"):
            self.compiled[name] = torch.compile(getattr(Layer, name), dynamic=False)

    def half(self, name):
        return self.compiled.get(name) or getattr(Layer, name)

    def embed(self, ids, positions):
        """ids, positions [B, T] -> x [B*T, hidden] in the compute dtype, cos, sin."""
        cos, sin = rope_tables(self.cfg, positions)
        return F.embedding(ids.reshape(-1), self.embed_tokens.weight).to(self.dtype), cos, sin

    def dense(self, ids, positions, each_layer=None):
        """Final-normed hidden rows [B*T, hidden] by dense attention. each_layer(i, layer, x, cos, sin) looks on."""
        x, cos, sin = self.embed(ids, positions)
        for i, layer in enumerate(self.layers):
            if each_layer is not None:
                each_layer(i, layer, x, cos, sin)
            q, k, v = self.half("before_dense")(layer, x, cos, sin)
            x = self.half("after_dense")(layer, x, dense_attention(q, k, v, ids.shape[0], self.cfg.scale))
        return self.norm(x)

    def sparse(self, ids, positions, forced=None, each_layer=None, topk=None):
        """The same by top-k selection. `forced[i]` [N, k] replaces the selection; each_layer sees (i, parts, idx)."""
        x, cos, sin = self.embed(ids, positions)
        for i, layer in enumerate(self.layers):
            q, kv, iq, ik, iw = self.half("before_sparse")(layer, x, cos, sin)
            if forced is not None:
                idx = forced[i]
            else:
                with torch.no_grad():
                    idx = sparse.select(iq, ik, iw, ids.shape[0], topk or self.cfg.index_topk)
            if each_layer is not None:
                each_layer(i, (q, kv, iq, ik, iw), idx)
            o = sparse.attend(q, kv, idx, self.cfg.kv_lora_rank, self.cfg.scale)
            x = self.half("after_sparse")(layer, x, o)
        return self.norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.embed_tokens.weight.to(hidden.dtype))
