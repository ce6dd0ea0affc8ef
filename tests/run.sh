#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds one preset with its tests and runs them.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
. "${root}/deploy/common.sh"

preset=release
slow=0

usage() {
  cat <<USAGE
usage: ${script_name} [--slow] [--preset NAME]
  --slow          also run the tests labelled slow
  --preset NAME   a preset of CMakePresets.json (default ${preset}); one without
                  a test preset is only built
USAGE
}

while (($# > 0)); do
  case "$1" in
    --slow) slow=1; shift ;;
    --preset)
      [[ -n "${2:-}" ]] || die "--preset wants a name"
      preset="$2"
      shift 2
      ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown argument '$1'" ;;
  esac
done

sections=(build test)
if ((slow)); then
  sections+=(slow demo)
fi
"${root}/deploy/install_packages.sh" "${sections[@]}"

# Relative paths let the build directories share one compiler cache.
export CCACHE_BASEDIR="${CCACHE_BASEDIR:-${root}}"
cd "${root}"

presets="$(cmake --list-presets=configure)"
[[ "${presets}" == *"\"${preset}\""* ]] ||
  die "unknown preset '${preset}'; cmake --list-presets shows them"

directory="${root}/build/${preset}"
SECONDS=0
quietly "${directory}/configure.log" cmake --preset "${preset}"
say "building preset ${preset}"
cmake_build "${directory}"
say "built in ${SECONDS} s"

test_presets="$(ctest --list-presets)"
if [[ "${test_presets}" != *"\"${preset}\""* ]]; then
  say "preset ${preset} has no tests to run"
  exit 0
fi

# The test presets leave out the tests labelled slow; naming the directory
# instead of the preset runs everything.
if ((slow)); then
  exec ctest --test-dir "${directory}" --output-on-failure --no-tests=error --parallel "$(nproc)"
else
  exec ctest --preset "${preset}" --no-tests=error --parallel "$(nproc)"
fi
