#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Proves the two documented commands on a bare Debian 12: makes a fresh root
# with debootstrap from this machine's own apt sources, copies this tree into
# it and runs there the quick start, the test suite and what the Dockerfile's
# run-time stage installs. Exits 77, which ctest counts as skipped, where it
# cannot be done.
set -euo pipefail

source_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
. "${source_root}/deploy/common.sh"

readonly wanted_bytes=300000
keep=0
quickstart_only=0

usage() {
  cat <<USAGE
usage: ${script_name} [--keep] [--quickstart-only]
  --keep              leave the roots in place, unmounted, and say where they are
  --quickstart-only   do not run the test suite in the root
USAGE
}

arguments=("$@")
while (($# > 0)); do
  case "$1" in
    --keep) keep=1; shift ;;
    --quickstart-only) quickstart_only=1; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown argument '$1'" ;;
  esac
done

. "${source_root}/tests/debootstrap_common.sh"

# 1. The quick start and the tests in a bare root.
say "making a bare Debian ${suite} in ${work}"
bare="${work}/bare"
make_root "${bare}"
mkdir "${bare}/mneme"
tar -C "${source_root}" --exclude=./build --exclude=./.git --exclude=./.ccache -cf - . |
  tar -C "${bare}/mneme" --no-same-owner -xf -

say "running deploy/quickstart.sh in it"
if ! in_root "${bare}" /mneme/deploy/quickstart.sh >"${work}/quickstart.log" 2>&1; then
  tail -n 100 "${work}/quickstart.log" >&2
  die "deploy/quickstart.sh failed"
fi
streamed="$(sed -n 's/^ *bytes streamed *\([0-9]*\)$/\1/p' "${work}/quickstart.log")"
if ((${streamed:-0} < wanted_bytes)); then
  tail -n 100 "${work}/quickstart.log" >&2
  die "the quick start streamed ${streamed:-no} bytes, wanted at least ${wanted_bytes}"
fi
sed -n '/^Random weights: /,$p' "${work}/quickstart.log"

for process in /proc/[0-9]*; do
  program="$(readlink "${process}/exe" 2>/dev/null)" || continue
  [[ "${program}" != *mnemed* ]] || die "the quick start left ${program} running"
done

if ((!quickstart_only)); then
  say "running tests/run.sh in it"
  if ! in_root "${bare}" /mneme/tests/run.sh >"${work}/tests.log" 2>&1; then
    tail -n 200 "${work}/tests.log" >&2
    die "tests/run.sh failed"
  fi
  grep -E 'tests passed|Total Test time' "${work}/tests.log"
fi

# 2. The run-time stage of the Dockerfile: the run-time packages alone must
# carry the built programs.
say "checking the run-time packages in a second root"
runtime="${work}/runtime"
make_root "${runtime}"
mkdir "${runtime}/mneme"
cp -r "${source_root}/deploy" "${runtime}/mneme/"
for program in mnemed mneme mneme-mkmodel; do
  cp "${bare}/mneme/build/quickstart/bin/${program}" "${runtime}/usr/local/bin/"
done
in_root "${runtime}" /mneme/deploy/install_packages.sh runtime >"${work}/runtime.log" 2>&1 || {
  tail -n 60 "${work}/runtime.log" >&2
  die "deploy/install_packages.sh runtime failed"
}
for program in mnemed mneme mneme-mkmodel; do
  lacking="$(in_root "${runtime}" ldd "/usr/local/bin/${program}" | grep 'not found' || true)"
  [[ -z "${lacking}" ]] || die "${program} lacks in the run-time stage: ${lacking}"
  in_root "${runtime}" timeout 60 "/usr/local/bin/${program}" --help >/dev/null ||
    die "${program} --help failed in the run-time stage"
done
for compiler in g++ gcc cc clang; do
  if in_root "${runtime}" /bin/sh -c "command -v ${compiler}" >/dev/null; then
    die "the run-time section installs a compiler: ${compiler}"
  fi
done
say "passed"
