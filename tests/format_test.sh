#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks that every C++ file of ours is as clang-format would write it.
# Exits 77, which ctest counts as skipped, where clang-format is missing.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
clang_format="${CLANG_FORMAT:-clang-format}"

if ! command -v "${clang_format}" >/dev/null; then
  printf 'skipped: %s is not installed\n' "${clang_format}"
  exit 77
fi

mapfile -d '' files < <(find proto server engine client tests \
  -type f \( -name '*.h' -o -name '*.cc' \) -print0 | sort -z)
((${#files[@]} > 0)) || { printf 'found no C++ file to check\n' >&2; exit 1; }

if ! printf '%s\0' "${files[@]}" |
  xargs -0 -n 16 -P "$(nproc)" "${clang_format}" --dry-run -Werror; then
  printf 'to format everything: find %s | xargs clang-format -i\n' \
    "proto server engine client tests -name '*.h' -o -name '*.cc'" >&2
  exit 1
fi
printf '%d files are formatted\n' "${#files[@]}"
