#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the cases of tests/golden/tokenizers: small tokenizer.json files and
what Hugging Face's tokenizers makes of 2,000 strings with each.

    python3 -m venv env && env/bin/pip install tokenizers
    env/bin/python tests/parity/make_tokenizer_cases.py tests/golden/tokenizers

strings.json has the strings, which all kinds share. The folder of a kind has
its tokenizer.json, trained on generated text but put together as the files of
the family it is named after; ids.txt, the ids of one string a line, without
what the post-processor adds and with special tokens in text taken for text;
and decoded.json, by its number the text of every string that does not decode
to itself.
"""

import json
import pathlib
import random
import sys
import unicodedata

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

STRINGS = 2000

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and then it doesn't.",
    "In the beginning God created the heaven and the earth.",
    "We'll see what they've done; I'm sure you'd say it's theirs.",
    "Memory of a fixed size is read with every token that is written.",
    "Übung macht den Meister; größer, schöner, weiß, Straße.",
    "Les élèves naïfs ont mangé à la crêperie où ça coûte cher.",
    "Ελλάδα και η γλώσσα των θεών, αρχή και τέλος",
    "В начале было слово, и слово было у бога.",
    "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。寒来暑往，秋收冬藏。",
    "いろはにほへと ちりぬるを。ワカヨタレソ、ツネナラム？",
    "모든 국민은 인간으로서의 존엄과 가치를 가진다.",
    "في البدء كان الكلمة والكلمة كان عند الله",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกัน",
    "for (int i = 0; i < n; ++i) { total += x[i] * y[i]; }\treturn total;\n",
    "def f(x):\n    if x > 10:\n        return x ** 2\n    return {'a': [1, 2, 3]}\n",
    "In 2024 there were 1,234,567 of them: 3.14159 and 0x1F, or ½ and ²³.",
    "https://example.org/path?q=1&r=two#three user@example.org",
]
# Characters and runs of them that tokenizers treat each in its own way.
ODD = [
    " ", "  ", "   ", "     ", "\n", "\n\n", "\r\n", "\r\n\r\n", "\r", "\t", "\t\t", " \n", "\n ", "  \n  ",
    " \t \r\n ", "\u00a0", "\u3000", "\u0085", "\u180e", "\u2028", "\u200b", "\ufeff", "\x0b", "\x0c", "\x00", "\x7f",
    "\u2581", "\u2581\u2581", " \u2581", "\u2581 ", "<s>", "</s>", "<unk>", "<0x0A>", "<|endoftext|>", "<|eot_id|>",
    "<|im_start|>", "<|im_end|>", "<|im_st", "<|begin_of_text|>", "<tool_call>", "</tool_call>", "<tool_", "<think>",
    "<tool_call><think>", "e\u0301", "e\u0323\u0301", "e\u0301\u0323", "\u0301", "q\u0307\u0323", "a\u0300\u0301\u0302\u0303",
    "\u0915\u093c", "\u1100\u1161\u11a8", "\uac00\u11a8", "\u212b", "\u2126", "\ufb01", "\u1e9b\u0323", "\u0344", "\u0f73",
    "\U0001f600", "\U0001f469\u200d\U0001f52c", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f\u200d\U0001f525", "1\ufe0f\u20e3", "\U0001d54f",
    "\U00020000", "'s", "'S", "'ll", "'LL", "'l", "'re", "'Ve", "'\u017f", "\u2019s", " 's", "''", "don't", "12", "123",
    "1234", "1234567890", " 7", "\u0663\u0664", "\u2167", "\u00bd", "...", "!!!", " ?!", "\u3002\u3002", "--", "##", "\ufffd", "\ud7a3",
]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
O200K = ("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
DEEPSEEK = ["\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
            "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"]


def byte_level(**changes):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False, **changes}


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def sequence(key, *components):
    return {"type": "Sequence", key: list(components)}


def metaspace(scheme, split_words):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split_words}


def replace(old, new):
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def template(name, token):
    return {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": name, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [token], "tokens": [name]}}}


LLAMA_NORMALIZER = sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁"))
LLAMA_DECODER = sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                         {"type": "Strip", "content": " ", "start": 1, "stop": 0})
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

# What each kind is made of: components, model settings, special tokens and
# other added ones.
KINDS = {
    "gpt2": dict(pre=byte_level(use_regex=True), post=byte_level(), special=["<|endoftext|>"]),
    "gpt2_prefix_space": dict(pre=byte_level(use_regex=True, add_prefix_space=True), special=["<|endoftext|>"],
                              added=["<think>"]),
    "llama3": dict(pre=sequence("pretokenizers", split(LLAMA3), byte_level()),
                   post=sequence("processors", byte_level(), template("<|begin_of_text|>", None)),
                   special=["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
                   model={"ignore_merges": True}, merge_pairs=True),
    "qwen": dict(normalizer={"type": "NFC"}, pre=sequence("pretokenizers", split(QWEN), byte_level()),
                 post=byte_level(), special=CHATML, added=["<tool_call>", "</tool_call>", "<think>"]),
    "bloom": dict(pre=sequence("pretokenizers", split(BLOOM), byte_level()), post=byte_level(),
                  special=["<unk>", "<s>", "</s>"]),
    "o200k": dict(pre=sequence("pretokenizers", split(O200K, "Removed", True), byte_level()),
                  special=["<|endoftext|>"], normalizer={"type": "NFKC"}),
    "deepseek": dict(pre=sequence("pretokenizers", *map(split, DEEPSEEK), byte_level()),
                     special=["<|endoftext|>"], added=["<think>"]),
    "starcoder": dict(pre=sequence("pretokenizers", {"type": "Digits", "individual_digits": True},
                                   byte_level(use_regex=True)),
                      special=["<|endoftext|>"], normalizer=sequence("normalizers", {"type": "NFD"}, {"type": "Lowercase"})),
    "llama2": dict(normalizer=LLAMA_NORMALIZER, post=template("<s>", 1), decoder=LLAMA_DECODER, fallback=True,
                   added=["<tool_call>", "<think>"], merge_pairs=True),
    "mistral": dict(pre=metaspace("first", False), post=template("<s>", 1), decoder=LLAMA_DECODER, fallback=True,
                    added=["<tool_call>", "<think>"]),
    "metaspace": dict(pre=metaspace("always", True), decoder=metaspace("always", True), unknown=True,
                      added=["<think>"]),
    "gemma": dict(normalizer=replace(" ", "▁"),
                  pre={"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
                  decoder=sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}),
                  fallback=True, added=["<think>"]),
}


def random_char(chance):
    """A character that has been what it is since Unicode 3.2."""
    while True:
        c = chr(chance.randrange(chance.choice([0x250, 0x3000, 0x10000, 0x30000])))
        category = unicodedata.category(c)
        if category not in ("Cn", "Cs", "Co") and category == unicodedata.ucd_3_2_0.category(c):
            return c


def random_string(chance):
    parts = []
    for _ in range(chance.randint(1, 4)):
        kind = chance.randrange(10)
        if kind < 4:
            words = chance.choice(SENTENCES).split(" ")
            start = chance.randrange(len(words))
            parts.append(" ".join(words[start:start + chance.randint(1, 4)])[:30])
        elif kind < 8:
            parts.append("".join(chance.choice(ODD) for _ in range(chance.randint(1, 3))))
        elif kind == 8:
            parts.append("".join(random_char(chance) for _ in range(chance.randint(1, 5))))
        else:
            parts.append(chance.choice("aeno t\n'1\u2581天") * chance.randint(2, 12))
        parts.append(chance.choice(["", "", " ", "\n"]))
    return "".join(parts)


def make_strings():
    chance = random.Random(20)
    strings = ["", " ", "a", *ODD, *SENTENCES]
    while len(strings) < STRINGS:
        strings.append(random_string(chance))
    return strings


def training_text():
    chance = random.Random(21)
    words = [sentence.split(" ") for sentence in SENTENCES]
    for _ in range(3000):
        line = list(chance.choice(words))
        if chance.random() < 0.5:
            chance.shuffle(line)
        yield " ".join(line)


def train(kind):
    """The vocabulary and the merges of a model for `kind`."""
    trained = tokenizers.Tokenizer(models.BPE())
    wide = kind.get("fallback") or kind.get("unknown")
    if wide:
        trained.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        trained.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(tokenizers.Regex(GPT2), "isolated"),
             pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    # A limited alphabet leaves characters without a token.
    limits = dict(limit_alphabet=150) if wide else dict(initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    trained.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=900, show_progress=False, **limits))
    model = json.loads(trained.to_str())["model"]
    order = sorted(model["vocab"], key=model["vocab"].get)
    if wide:
        order = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256) if kind.get("fallback")] + order
    return order, model["merges"]


def make_tokenizer(kind):
    order, merges = train(kind)
    special = kind.get("special", ["<unk>", "<s>", "</s>"])
    order = order + [name for name in special + kind.get("added", []) if name not in order]
    vocabulary = {name: token for token, name in enumerate(order)}
    post = json.loads(json.dumps(kind.get("post")).replace("[null]", f"[{vocabulary[special[0]]}]"))
    added = [{"id": vocabulary[name], "content": name, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": name in special} for name in special + kind.get("added", [])]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
             "vocab": vocabulary,
             "merges": merges if kind.get("merge_pairs") else [" ".join(merge) for merge in merges]}
    if kind.get("fallback") or kind.get("unknown"):
        model.update(unk_token="<unk>", fuse_unk=True, byte_fallback=bool(kind.get("fallback")))
    model.update(kind.get("model", {}))
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": sorted(added, key=lambda token: token["id"]), "normalizer": kind.get("normalizer"),
            "pre_tokenizer": kind.get("pre"), "post_processor": post,
            "decoder": kind.get("decoder", byte_level(use_regex=True, add_prefix_space=True)), "model": model}


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    strings = make_strings()
    write_json(folder / "strings.json", {"strings": strings})
    for name, kind in KINDS.items():
        (folder / name).mkdir(exist_ok=True)
        write_json(folder / name / "tokenizer.json", make_tokenizer(kind))
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / name / "tokenizer.json"))
        tokenizer.encode_special_tokens = True
        ids = [tokenizer.encode(string, add_special_tokens=False).ids for string in strings]
        (folder / name / "ids.txt").write_text("".join(" ".join(map(str, line)) + "\n" for line in ids))
        decoded = [tokenizer.decode(line, skip_special_tokens=True) for line in ids]
        write_json(folder / name / "decoded.json",
                   {str(i): text for i, text in enumerate(decoded) if text != strings[i]})


if __name__ == "__main__":
    main()
