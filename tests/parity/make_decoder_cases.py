#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the cases of tests/golden/decoders: tiny decoders of random weights
and the logits that Hugging Face transformers computes from them.

    python3 -m venv env && env/bin/pip install torch transformers safetensors
    env/bin/python tests/parity/make_decoder_cases.py tests/golden/decoders

Each case is a directory as mneme-parity takes it: config.json as transformers
saves it, with a window or a limit longer than the sequences; model.safetensors;
expected.safetensors with input_ids [B, T] and logits [B, T, vocab].
"""

import json
import pathlib
import sys

import safetensors.torch
import torch
import transformers

TOKENS_OF_ALL = dict(vocab_size=96, bos_token_id=1, eos_token_id=2)
SIZES = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=256)
GPT2 = dict(n_embd=48, n_layer=2, n_head=4)
BLOOM = dict(hidden_size=48, n_layer=2)
SEQUENCES, TOKENS, SPAN = 2, 90, 100

CASES = {
    "llama": (transformers.LlamaConfig, dict(SIZES, rope_theta=500000.0)),
    "llama_biases_tied_one_head": (transformers.LlamaConfig, dict(
        SIZES, num_key_value_heads=1, attention_bias=True, tie_word_embeddings=True, head_dim=10)),
    "llama_rope_linear": (transformers.LlamaConfig, dict(
        SIZES, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0})),
    "llama_rope_llama3": (transformers.LlamaConfig, dict(
        SIZES, rope_parameters={"rope_type": "llama3", "factor": 8.0, "rope_theta": 10000.0,
                                "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                "original_max_position_embeddings": 64})),
    "llama_rope_yarn": (transformers.LlamaConfig, dict(
        SIZES, hidden_act="gelu", mlp_bias=True,
        rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0,
                         "original_max_position_embeddings": 64})),
    "llama_geglu_tanh": (transformers.LlamaConfig, dict(SIZES, hidden_act="gelu_pytorch_tanh")),
    "gpt2": (transformers.GPT2Config, dict(GPT2, n_positions=128)),
    "gpt2_gelu_untied": (transformers.GPT2Config, dict(
        GPT2, n_positions=96, n_inner=56, activation_function="gelu",
        tie_word_embeddings=False)),
    "bloom": (transformers.BloomConfig, dict(BLOOM, n_head=4)),
    "bloom_six_heads": (transformers.BloomConfig, dict(BLOOM, n_head=6)),
    "mistral_window": (transformers.MistralConfig, dict(SIZES, sliding_window=17)),
    "qwen2": (transformers.Qwen2Config, SIZES),
    "qwen3": (transformers.Qwen3Config, dict(SIZES, head_dim=16)),
}


def write_case(folder, config_class, settings, limited):
    config = config_class(**TOKENS_OF_ALL, **settings)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)
            elif "norm" in name or "ln_" in name:
                parameter.normal_(1, 0.2)
            else:
                parameter.normal_(0, 0.3)
        ids = torch.randint(0, config.vocab_size, (SEQUENCES, TOKENS))
        logits = model(ids).logits
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "config.json"
    saved = json.loads(path.read_text())
    if saved["model_type"] != "gpt2" and not saved.get("sliding_window"):
        # All tokens see all before them, which both say of so few.
        saved["attention_limit" if limited else "attention_window"] = SPAN
    path.write_text(json.dumps(saved, indent=2) + "\n")
    safetensors.torch.save_file({"input_ids": ids, "logits": logits.contiguous()},
                                folder / "expected.safetensors")


def main():
    transformers.logging.set_verbosity_error()
    for number, (name, (config_class, settings)) in enumerate(CASES.items()):
        torch.manual_seed(number)
        folder = pathlib.Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        write_case(folder, config_class, settings, limited=number % 2 == 1)
        print(name, "by transformers", transformers.__version__)


if __name__ == "__main__":
    main()
