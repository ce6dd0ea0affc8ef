#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the libFuzzer targets with clang and runs each for a while, from its
# corpus. Fails on the first finding, which it leaves in build/fuzz.
#   tests/fuzz/run.sh [SECONDS]     default 60
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=deploy/common.sh
source deploy/common.sh
seconds="${1:-60}"
deploy/install_packages.sh build test
quietly build/fuzz/configure.log cmake --preset fuzz
cmake_build build/fuzz --target fuzzers
for target in build/fuzz/bin/fuzz_*; do
  name="${target##*/}"
  fresh="build/fuzz/${name}.corpus"
  mkdir -p "${fresh}"
  printf '%s: %s s\n' "${name}" "${seconds}"
  "${target}" -max_total_time="${seconds}" -rss_limit_mb=4096 -verbosity=0 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/${name}-" "${fresh}" "tests/fuzz/corpus/${name}"
done
