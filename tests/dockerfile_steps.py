#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prints a Dockerfile's steps, one a line: the instruction, a tab, its text.

    dockerfile_steps.py DOCKERFILE
    dockerfile_steps.py --self-test

Continued lines are joined and comments left out. An instruction or an option
that tests/container_test.sh cannot carry out is an error, so that nothing in
the file goes untested.
"""

import json
import sys

KNOWN = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "VOLUME",
         "HEALTHCHECK", "ENTRYPOINT"}


def steps(text):
    lines, joined = [], ""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        joined += line
        if joined.endswith("\\"):
            joined = joined[:-1]
        elif joined.strip():
            lines.append(joined.strip())
            joined = ""
    if joined.strip():
        raise ValueError("the last line goes on behind the end")
    for line in lines:
        name, _, rest = line.partition(" ")
        rest = " ".join(rest.split()) if name != "RUN" else rest.strip()
        yield name, checked(name, rest)


def checked(name, rest):
    """What follows the instruction, in the form that the test reads."""
    if name not in KNOWN:
        raise ValueError(f"{name}: want one of {sorted(KNOWN)}")
    if not rest:
        raise ValueError(f"{name}: without anything")
    options = [word for word in rest.split() if word.startswith("--")]
    if name == "COPY":
        if any(not option.startswith("--from=") for option in options):
            raise ValueError(f"COPY: want no option but --from, found {options}")
    elif name == "HEALTHCHECK":
        command = rest[rest.index("CMD") + 4:]
        return "\t".join(words(name, command))
    elif name == "ENTRYPOINT":
        return "\t".join(words(name, rest))
    elif name == "VOLUME":
        return "\t".join(words(name, rest)) if rest.startswith("[") else rest
    elif name == "FROM" and options:
        raise ValueError(f"FROM: want no option, found {options}")
    return rest


def words(name, text):
    parsed = json.loads(text) if text.startswith("[") else None
    if not isinstance(parsed, list) or not all(isinstance(w, str) for w in parsed):
        raise ValueError(f"{name}: want a JSON list of strings, found {text}")
    return parsed


def self_test():
    good = "# c\nFROM a AS b\nRUN x \\\n  # c\n && y\nENTRYPOINT [\"p\", \"q r\"]\n"
    assert list(steps(good)) == [("FROM", "a AS b"), ("RUN", "x  && y"),
                                 ("ENTRYPOINT", "p\tq r")], list(steps(good))
    for bad in ("ADD a b\n", "RUN\n", "COPY --chown=x a b\n", "RUN a \\\n",
                "ENTRYPOINT p\n", "FROM --platform=x a\n"):
        try:
            list(steps(bad))
        except ValueError:
            continue
        raise AssertionError(f"accepted: {bad!r}")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return
    with open(sys.argv[1], encoding="utf-8") as file:
        for name, rest in steps(file.read()):
            print(f"{name}\t{rest}")


if __name__ == "__main__":
    main()
