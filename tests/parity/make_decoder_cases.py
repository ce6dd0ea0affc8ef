#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the cases of tests/golden/decoders: tiny decoders of random weights
and the logits that Hugging Face transformers computes from them.

    python3 -m venv env && env/bin/pip install torch transformers safetensors
    env/bin/python tests/parity/make_decoder_cases.py tests/golden/decoders

Each case is a directory as mneme-parity takes it: config.json as transformers
saves it, with a window longer than the sequences; model.safetensors;
expected.safetensors with input_ids [B, T] and logits [B, T, vocab].
"""

import json
import pathlib
import sys

import safetensors.torch
import torch
import transformers

SIZES = dict(vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
             bos_token_id=1, eos_token_id=2)
SEQUENCES, TOKENS, WINDOW = 2, 90, 100

CASES = {
    "llama": (transformers.LlamaConfig, dict(rope_theta=500000.0)),
    "llama_biases_tied_one_head": (transformers.LlamaConfig, dict(
        num_key_value_heads=1, attention_bias=True, tie_word_embeddings=True, head_dim=10)),
    "llama_rope_linear": (transformers.LlamaConfig, dict(
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0})),
    "llama_rope_llama3": (transformers.LlamaConfig, dict(
        rope_parameters={"rope_type": "llama3", "factor": 8.0, "rope_theta": 10000.0,
                         "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 64})),
    "mistral_window": (transformers.MistralConfig, dict(sliding_window=17)),
    "qwen2": (transformers.Qwen2Config, dict()),
    "qwen3": (transformers.Qwen3Config, dict(head_dim=16)),
}


def write_case(folder, config_class, settings):
    config = config_class(**{**SIZES, **settings})
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)
            elif "norm" in name:
                parameter.normal_(1, 0.2)
            else:
                parameter.normal_(0, 0.3)
        ids = torch.randint(0, config.vocab_size, (SEQUENCES, TOKENS))
        logits = model(ids).logits
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "config.json"
    saved = json.loads(path.read_text())
    if not saved.get("sliding_window"):
        saved["attention_window"] = WINDOW
    path.write_text(json.dumps(saved, indent=2) + "\n")
    safetensors.torch.save_file({"input_ids": ids, "logits": logits.contiguous()},
                                folder / "expected.safetensors")


def main():
    transformers.logging.set_verbosity_error()
    for number, (name, (config_class, settings)) in enumerate(CASES.items()):
        torch.manual_seed(number)
        folder = pathlib.Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        write_case(folder, config_class, settings)
        print(name, "by transformers", transformers.__version__)


if __name__ == "__main__":
    main()
