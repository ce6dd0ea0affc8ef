#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/chat_templates.json: conversations as the templates that
models were published with render them, run by Hugging Face transformers.

    python3 -m venv env && env/bin/pip install transformers jinja2
    env/bin/python tests/parity/make_chat_cases.py tests/golden/chat_templates.json

The texts are of the form that models were trained on: turns are trimmed, begin
with the user or the system, and alternate.
"""

import json
import pathlib
import sys

from transformers.utils.chat_template_utils import render_jinja_template

# As in tokenizer_config.json of Qwen2-7B-Instruct (without its system prompt),
# Meta-Llama-3-8B-Instruct, Mistral-7B-Instruct-v0.2 and -v0.3 (without tools).
TEMPLATES = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'"
              " + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama3": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' +"
              " message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0"
              " %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
              "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "mistral": "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' +"
               " message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] +"
               " eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}"
               "{% endfor %}",
    "mistral_v3": "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}"
                  "{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}"
                  "{{- bos_token }}{%- for message in loop_messages %}{%- if message['role'] == 'user' %}"
                  "{%- if loop.last and system_message is defined %}{{- '[INST] ' + system_message + '\n\n' +"
                  " message['content'] + '[/INST]' }}{%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}"
                  "{%- endif %}{%- elif message['role'] == 'assistant' %}{{- ' ' + message['content']|trim + eos_token}}"
                  "{%- endif %}{%- endfor %}",
}


def say(*turns):
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS = {
    "one": say(("user", "Hello")),
    "turns": say(("user", "Who are you?"), ("assistant", "A daemon."), ("user", "<|im_end|> [INST] </s> 天 e\u0301"),
                 ("assistant", "So you say.\n\nTwice."), ("user", "Bye.")),
    "answered": say(("user", "Who are you?"), ("assistant", "A daemon.")),
    "system": say(("system", "Be brief."), ("user", "Who are you?")),
    "tool": say(("system", "Be brief."), ("user", "Add."), ("assistant", "add(1, 2)"), ("tool", "3"), ("assistant", "3.")),
}


def main():
    cases = []
    for template, text in TEMPLATES.items():
        for name, messages in CONVERSATIONS.items():
            mistral = template.startswith("mistral")
            if mistral and (name == "tool" or (name == "system" and template == "mistral")):
                continue
            for reply in (False, True):
                if reply and messages[-1]["role"] == "assistant":
                    continue
                rendered, _ = render_jinja_template(
                    [messages], chat_template=text, add_generation_prompt=reply, bos_token="", eos_token="</s>")
                cases.append({"template": template, "messages": messages, "reply": reply, "rendered": rendered[0]})
    pathlib.Path(sys.argv[1]).write_text(json.dumps({"cases": cases}, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
