"""Shape of the model: the one place that turns a config.json into numbers and back.

The layout is `deepseek_v32` (transformers-5 form); only the fields that the
forward pass reads are kept as attributes, the rest is written out as constants.
"""
import dataclasses
import json


@dataclasses.dataclass
class Config:
    vocab_size: int = 16384
    hidden_size: int = 512
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    q_lora_rank: int = 256
    kv_lora_rank: int = 128
    qk_nope_head_dim: int = 64
    qk_rope_head_dim: int = 32
    v_head_dim: int = 64
    intermediate_size: int = 1408
    index_n_heads: int = 4
    index_head_dim: int = 64
    index_topk: int = 512
    max_position_embeddings: int = 131072
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    bos_token_id: int = 0
    eos_token_id: int = 1
    pad_token_id: int = 2

    @property
    def qk_head_dim(self):
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def latent_dim(self):
        """Width of one cache row: the latent and the shared rope key."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def scale(self):
        return self.qk_head_dim ** -0.5

    @classmethod
    def from_json(cls, path):
        raw = json.load(open(path))
        raw["rope_theta"] = raw.get("rope_parameters", raw).get("rope_theta", 1e6)
        names = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in raw.items() if k in names and v is not None})

    def to_json(self, fp8):
        n = self.num_hidden_layers
        out = {
            "architectures": ["DeepseekV32ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": self.bos_token_id,
            "dtype": "bfloat16",
            "eos_token_id": self.eos_token_id,
            "first_k_dense_replace": n,
            "head_dim": self.qk_rope_head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "index_head_dim": self.index_head_dim,
            "index_n_heads": self.index_n_heads,
            "index_topk": self.index_topk,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate_size,
            "kv_lora_rank": self.kv_lora_rank,
            "layer_types": ["deepseek_sparse_attention"] * n,
            "max_position_embeddings": self.max_position_embeddings,
            "mlp_bias": False,
            "mlp_layer_types": ["dense"] * n,
            "model_type": "deepseek_v32",
            "moe_intermediate_size": 64,
            "n_group": 1,
            "n_routed_experts": 1,
            "n_shared_experts": 1,
            "norm_topk_prob": True,
            "num_attention_heads": self.num_attention_heads,
            "num_experts_per_tok": 1,
            "num_hidden_layers": n,
            "num_key_value_heads": self.num_attention_heads,
            "pad_token_id": self.pad_token_id,
            "q_lora_rank": self.q_lora_rank,
            "qk_head_dim": self.qk_head_dim,
            "qk_nope_head_dim": self.qk_nope_head_dim,
            "qk_rope_head_dim": self.qk_rope_head_dim,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
            "routed_scaling_factor": 1.0,
            "tie_word_embeddings": True,
            "topk_group": 1,
            "transformers_version": "5.17.0",
            "use_cache": True,
            "v_head_dim": self.v_head_dim,
            "vocab_size": self.vocab_size,
        }
        if fp8:
            out["quantization_config"] = {
                "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                "weight_block_size": [128, 128],
            }
        return out


def toy_config(vocab_size=300):
    """Small enough for a CPU: every dimension differs from its neighbours so that a mix-up shows."""
    return Config(vocab_size=vocab_size, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                  q_lora_rank=48, kv_lora_rank=32, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=24,
                  intermediate_size=160, index_n_heads=4, index_head_dim=32, index_topk=24)
