# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts of this project share; sourced, not run.

# How a script names itself in its messages.
script_name="${0##*/}"

say() { printf '%s: %s\n' "${script_name}" "$*"; }

die() {
  printf '%s: error: %s\n' "${script_name}" "$*" >&2
  exit 1
}

# quietly LOG COMMAND...: runs COMMAND with its output in LOG; if it fails,
# shows the end of LOG and ends the script.
quietly() {
  local log="$1"
  shift
  mkdir -p "$(dirname "${log}")"
  if ! "$@" >"${log}" 2>&1 </dev/null; then
    tail -n 100 "${log}" >&2
    die "'$*' failed; its whole output is in ${log}"
  fi
}

# cmake_build DIRECTORY [ARGUMENT...]: builds a configured directory, one job
# per core, with ninja's own progress line on a terminal and silent elsewhere.
cmake_build() {
  local command=(cmake --build "$1" --parallel "$(nproc)" "${@:2}")
  if [[ -t 1 ]]; then
    "${command[@]}" || die "the build in $1 failed"
  else
    quietly "$1/build.log" "${command[@]}"
  fi
}
