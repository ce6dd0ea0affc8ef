#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the cases of tests/golden/hybrid: tiny models of the ttt family that
use its keys beyond the authors' own, and the logits that plain PyTorch in
double precision computes from them, token by token.

    python3 -m venv env && env/bin/pip install torch safetensors
    env/bin/python tests/parity/make_hybrid_cases.py tests/golden/hybrid

Each case is a directory as mneme-parity takes it: config.json,
model.safetensors and expected.safetensors with input_ids [B, T] and logits
[B, T, vocab].

The inner learner with a norm is stated as a loss, and its gradient is left to
automatic differentiation.
"""

import json
import math
import pathlib
import sys

import safetensors.torch
import torch
import torch.nn.functional as F

SEQUENCES, TOKENS = 2, 90
A, M = "sliding_attention", "ttt"

BASE = dict(model_type="ttt", architectures=["TTTForCausalLM"], vocab_size=60, hidden_size=32,
            intermediate_size=40, num_attention_heads=4, rms_norm_eps=1e-5, rope_theta=1000.0,
            hidden_act="silu", tie_word_embeddings=True, bos_token_id=None, eos_token_id=2)
DELTA = dict(ttt_inner_norm=False, mini_batch_size=1, ttt_rope=False, ttt_qk_l2norm=True,
             ttt_qk_l2norm_eps=0.01, ttt_lr_gate="hard", ttt_lr_gate_stretch=2.0,
             ttt_lr_scale="one", ttt_post_norm=False, ttt_gate_act="sigmoid", share_qk=True,
             use_gate=True, pre_conv=True, ttt_num_heads=2, ttt_head_dim=24)
CASES = {
    "delta_hybrid": dict(DELTA, layer_types=[A, A, M, A, M], sliding_window=20, user_token_id=3,
                         assistant_token_id=4),
    "delta_scaled_rate_post_norm": dict(
        ttt_inner_norm=False, mini_batch_size=1, ttt_num_heads=3, ttt_head_dim=14, ttt_base_lr=2.0,
        use_gate=True, tie_word_embeddings=False, layer_types=[M, A], sliding_window=1),
    "delta_wide_stretch": dict(DELTA, layer_types=[M, M], ttt_lr_gate_stretch=12.0, share_qk=False,
                               pre_conv=False, use_gate=False, ttt_num_heads=5, ttt_head_dim=7),
    "linear_hard_gate_own_heads": dict(
        layer_types=[A, M, M], sliding_window=33, mini_batch_size=7, ttt_num_heads=3,
        ttt_head_dim=12, share_qk=True, use_gate=True, pre_conv=True, conv_kernel=3,
        ttt_lr_gate="hard", ttt_lr_gate_stretch=3.0, ttt_qk_l2norm=True, ttt_qk_l2norm_eps=0.05),
    "linear_no_rotation_one": dict(
        layer_types=[M, A], sliding_window=90, mini_batch_size=5, ttt_num_heads=2, ttt_head_dim=15,
        ttt_rope=False, ttt_lr_scale="one", ttt_lr_gate="hard", ttt_lr_gate_stretch=2.0,
        ttt_qk_l2norm=True, ttt_post_norm=False, use_gate=True, ttt_gate_act="sigmoid"),
    "mlp_sigmoid_gate": dict(
        layer_types=[M, A, M], sliding_window=12, mini_batch_size=16, ttt_layer_type="mlp",
        ttt_base_lr=0.1, ttt_num_heads=2, ttt_head_dim=8, use_gate=True, ttt_gate_act="sigmoid",
        ttt_rope=False, ttt_post_norm=False),
}
DEFAULTS = dict(ttt_layer_type="linear", ttt_inner_norm=True, ttt_qk_l2norm=False,
                ttt_qk_l2norm_eps=1e-6, ttt_rope=True, ttt_base_lr=1.0, ttt_lr_gate="sigmoid",
                ttt_lr_scale="base/d", mini_batch_size=16, share_qk=False, ttt_post_norm=True,
                use_gate=False, ttt_gate_act="gelu", pre_conv=False, conv_kernel=4)


def gelu(x):
    return F.gelu(x, approximate="tanh")


def rms(x, weight, eps):
    return weight * x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def conv(x, weight, bias):
    """x [T, channels], each channel alone, over what was up to now."""
    taps = weight.shape[-1]
    return F.conv1d(F.pad(x.T, (taps - 1, 0)), weight, bias, groups=x.shape[1]).T


def rotate(x, positions, theta):
    """x [T, heads, dim]: pairs of neighbours turned."""
    dim = x.shape[-1]
    frequencies = theta ** (-torch.arange(0, dim, 2, dtype=x.dtype) / dim)
    angles = positions.to(x.dtype)[:, None, None] * frequencies
    turned = torch.view_as_complex(x.reshape(*x.shape[:-1], dim // 2, 2).contiguous())
    return torch.view_as_real(turned * torch.polar(torch.ones_like(angles), angles)).reshape(x.shape)


class Layer:
    def __init__(self, config, weights, number):
        self.c, self.w = config, weights
        self.prefix = f"model.layers.{number}."
        self.attention = config["layer_types"][number] == A
        self.mixer_prefix = self.prefix + ("self_attn." if self.attention else "seq_modeling_block.")
        self.heads = config["num_attention_heads"] if self.attention else config["ttt_num_heads"]

    def m(self, name):
        return self.w[self.mixer_prefix + name]

    def split(self, x):
        return x.reshape(x.shape[0], self.heads, -1)

    def __call__(self, x):
        c, w, p = self.c, self.w, self.prefix
        eps = c["rms_norm_eps"]
        if c["pre_conv"]:
            x = x + conv(rms(x, w[p + "conv.norm.weight"], eps), w[p + "conv.conv.weight"],
                         w[p + "conv.conv.bias"])
        h = rms(x, w[p + "seq_norm.weight"], eps)
        x = x + (self.attend(h) if self.attention else self.remember(h))
        h = rms(x, w[p + "ffn_norm.weight"], eps)
        gate = F.silu(h @ w[p + "mlp.gate_proj.weight"].T)
        return x + (gate * (h @ w[p + "mlp.up_proj.weight"].T)) @ w[p + "mlp.down_proj.weight"].T

    def attend(self, h):
        positions = torch.arange(len(h))
        q, k, v = [self.split(h @ self.m(n + "_proj.weight").T) for n in "qkv"]
        q, k = [rotate(y, positions, self.c["rope_theta"]) for y in (q, k)]
        scores = torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(q.shape[-1])
        behind = positions[:, None] - positions[None]
        seen = (behind >= 0) & (behind < self.c["sliding_window"])
        read = torch.einsum("hij,jhd->ihd", scores.masked_fill(~seen, -math.inf).softmax(-1), v)
        return read.flatten(1) @ self.m("o_proj.weight").T

    def remember(self, h):
        c = self.c
        u = h @ self.m("q_proj.weight").T
        if c["share_qk"]:
            q, k = [conv(u, self.m(f"conv_{n}.weight"), self.m(f"conv_{n}.bias")) for n in "qk"]
        else:
            q, k = u, h @ self.m("k_proj.weight").T
        q, k, v = self.split(q), self.split(k), self.split(h @ self.m("v_proj.weight").T)
        if c["ttt_qk_l2norm"]:
            q, k = [y / torch.sqrt(y.pow(2).sum(-1, keepdim=True) + c["ttt_qk_l2norm_eps"])
                    for y in (q, k)]
        if c["ttt_rope"]:
            slots = torch.arange(len(h)) % c["mini_batch_size"]
            q, k = [rotate(y, slots, c["rope_theta"]) for y in (q, k)]
        logits = h @ self.m("learnable_ttt_lr_weight")[:, 0].T + self.m("learnable_ttt_lr_bias")[:, 0]
        eta = torch.sigmoid(logits)
        if c["ttt_lr_gate"] == "hard":
            stretch = c["ttt_lr_gate_stretch"]
            eta = (stretch * eta - (stretch - 1) / 2).clamp(0, 1)
        slots = c["mini_batch_size"]
        scales = torch.ones(slots, dtype=h.dtype)
        if c["ttt_lr_scale"] == "base/d":
            eta = eta * c["ttt_base_lr"] / q.shape[-1]
            scales = 1 / torch.arange(1, slots + 1, dtype=h.dtype) + self.m("learnable_token_idx")
            scales = scales.clamp(min=0)
        learn = self.norm_learner if c["ttt_inner_norm"] else self.plain_learner
        y = torch.stack([learn(head, q[:, head], k[:, head], v[:, head], eta[:, head], scales)
                         for head in range(self.heads)], 1).flatten(1)
        if c["ttt_post_norm"]:
            y = F.layer_norm(y, y.shape[-1:], self.m("post_norm.weight"), self.m("post_norm.bias"),
                             1e-6)
        if c["use_gate"]:
            act = torch.sigmoid if c["ttt_gate_act"] == "sigmoid" else gelu
            y = y * act(h @ self.m("g_proj.weight").T)
        return y @ self.m("o_proj.weight").T

    def plain_learner(self, head, q, k, v, eta, scales):
        memory = torch.zeros(q.shape[-1], q.shape[-1], dtype=q.dtype)
        out = []
        for t in range(len(q)):
            rate = eta[t] * scales[0]
            self.closed += int(rate == 0)
            self.writes += int(rate != 0)
            if rate != 0:
                memory = memory + rate * torch.outer(k[t], v[t] - k[t] @ memory)
            out.append(q[t] @ memory)
        return torch.stack(out)

    def norm_learner(self, head, q, k, v, eta, scales):
        names = ["W1", "b1", "W2", "b2"] if self.c["ttt_layer_type"] == "mlp" else ["W1", "b1"]
        start = [self.m(name)[head] for name in names]
        gamma, beta = self.m("ttt_norm_weight")[head], self.m("ttt_norm_bias")[head]

        def model(x, parameters):
            z = x @ parameters[0] + parameters[1][0]
            if len(parameters) == 4:
                z = gelu(z) @ parameters[2] + parameters[3][0]
            return x + F.layer_norm(z, z.shape, gamma, beta, 1e-6)

        out, slots = [], len(scales)
        total = [torch.zeros_like(p) for p in start]
        for t in range(len(q)):
            variables = [p.clone().requires_grad_() for p in start]
            with torch.enable_grad():
                loss = (model(k[t], variables) - v[t]).pow(2).sum() / 2
                gradients = torch.autograd.grad(loss, variables)
            self.closed += int(eta[t] == 0)
            self.writes += int(eta[t] != 0)
            total = [s + eta[t] * g for s, g in zip(total, gradients)]
            now = [p - scales[t % slots] * s for p, s in zip(start, total)]
            out.append(model(q[t], now))
            if (t + 1) % slots == 0:
                start, total = now, [torch.zeros_like(p) for p in start]
        return torch.stack(out)

    closed = writes = 0


def forward(config, weights, ids):
    c = {**DEFAULTS, **config}
    w = {name: tensor.double() for name, tensor in weights.items()}
    x = w["model.embed_tokens.weight"][ids]
    closed = writes = 0
    for number in range(c["num_hidden_layers"]):
        layer = Layer(c, w, number)
        x = layer(x)
        closed, writes = closed + layer.closed, writes + layer.writes
    head = w["model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"]
    return rms(x, w["model.norm.weight"], c["rms_norm_eps"]) @ head.T, (closed, writes)


def draw(config):
    c = {**DEFAULTS, **config}
    dim, ffn, vocab = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    heads, head_dim, taps = c["ttt_num_heads"], c["ttt_head_dim"], c["conv_kernel"]
    inner = heads * head_dim
    w = {}

    def put(name, shape, deviation, mean=0.0):
        w[name] = torch.randn(shape) * deviation + mean

    def matrix(name, out, width):
        put(name, (out, width), width ** -0.5)

    matrix("model.embed_tokens.weight", vocab, dim)
    put("model.norm.weight", (dim,), 0.2, 1.0)
    if not c["tie_word_embeddings"]:
        matrix("lm_head.weight", vocab, dim)
    for number, kind in enumerate(c["layer_types"]):
        p = f"model.layers.{number}."
        for name in ("seq_norm", "ffn_norm"):
            put(p + name + ".weight", (dim,), 0.2, 1.0)
        if c["pre_conv"]:
            put(p + "conv.norm.weight", (dim,), 0.2, 1.0)
            put(p + "conv.conv.weight", (dim, 1, taps), 0.3)
            put(p + "conv.conv.bias", (dim,), 0.1)
        matrix(p + "mlp.gate_proj.weight", ffn, dim)
        matrix(p + "mlp.up_proj.weight", ffn, dim)
        matrix(p + "mlp.down_proj.weight", dim, ffn)
        if kind == A:
            for name in "qkvo":
                matrix(p + f"self_attn.{name}_proj.weight", dim, dim)
            continue
        m = p + "seq_modeling_block."
        for name in "qv" + ("" if c["share_qk"] else "k") + ("g" if c["use_gate"] else ""):
            matrix(m + name + "_proj.weight", inner, dim)
        matrix(m + "o_proj.weight", dim, inner)
        if c["share_qk"]:
            for name in "qk":
                put(m + f"conv_{name}.weight", (inner, 1, taps), 0.5)
                put(m + f"conv_{name}.bias", (inner,), 0.1)
        # Logits that open gates, close them, and leave them in between.
        put(m + "learnable_ttt_lr_weight", (heads, 1, dim), 2 * dim ** -0.5)
        put(m + "learnable_ttt_lr_bias", (heads, 1), 0.3)
        if c["ttt_lr_scale"] == "base/d":
            put(m + "learnable_token_idx", (c["mini_batch_size"],), 0.1)
        if c["ttt_post_norm"]:
            put(m + "post_norm.weight", (inner,), 0.2, 1.0)
            put(m + "post_norm.bias", (inner,), 0.1)
        if c["ttt_inner_norm"]:
            put(m + "ttt_norm_weight", (heads, head_dim), 0.2, 1.0)
            put(m + "ttt_norm_bias", (heads, head_dim), 0.1)
            widths = [head_dim, 4 * head_dim, head_dim] if c["ttt_layer_type"] == "mlp" else \
                [head_dim, head_dim]
            for i, (width, out) in enumerate(zip(widths, widths[1:]), 1):
                put(m + f"W{i}", (heads, width, out), 0.3 * width ** -0.5)
                put(m + f"b{i}", (heads, 1, out), 0.1)
    return w


def main():
    torch.set_grad_enabled(False)
    for number, (name, settings) in enumerate(CASES.items()):
        torch.manual_seed(number)
        config = {**BASE, **settings}
        config["num_hidden_layers"] = len(config["layer_types"])
        weights = draw(config)
        ids = torch.randint(0, config["vocab_size"], (SEQUENCES, TOKENS))
        results = [forward(config, weights, row) for row in ids]
        folder = pathlib.Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        safetensors.torch.save_file(weights, folder / "model.safetensors")
        logits = torch.stack([logits for logits, _ in results]).float()
        safetensors.torch.save_file({"input_ids": ids, "logits": logits.contiguous()},
                                    folder / "expected.safetensors")
        print(name, "by torch", torch.__version__, "closed and open gates",
              [gates for _, gates in results], "largest logit", float(logits.abs().max()))


if __name__ == "__main__":
    main()
