#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the one fenced block of a language in a Markdown file to a file.

    readme_block.py README.md cpp OUT
"""

import pathlib
import re
import sys


def block(markdown, language):
    found = re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", markdown, re.M | re.S)
    assert len(found) == 1, f"found {len(found)} blocks of {language}, wanted 1"
    return found[0]


if __name__ == "__main__":
    readme, wanted, out = sys.argv[1:]
    pathlib.Path(out).write_text(block(pathlib.Path(readme).read_text(), wanted))
