#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the release preset and prints one table of figures, each with its
# share of a limit that was measured in the same run. Arguments go to
# mneme-bench-engine (--help lists them).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=deploy/common.sh
source deploy/common.sh
deploy/install_packages.sh build test
quietly build/release/configure.log cmake --preset release
cmake_build build/release --target mneme-bench-engine mnemed
export OMP_WAIT_POLICY=passive
exec build/release/bin/mneme-bench-engine "$@"
