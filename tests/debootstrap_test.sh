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

readonly suite=bookworm wanted_bytes=300000
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

skip() {
  printf 'skipped: %s\n' "$*"
  exit 77
}

((EUID == 0)) || skip "making a Debian root needs root rights"
for tool in debootstrap apt-get chroot mount umount unshare; do
  command -v "${tool}" >/dev/null || skip "${tool} is not installed"
done

# Mounts and processes live in namespaces of their own: whatever becomes of
# this script, none of them outlives it and none reaches the rest of the machine.
isolate=(unshare --mount --propagation private --pid --fork --kill-child --mount-proc)
if [[ -z "${MNEME_DEBOOTSTRAP_ISOLATED:-}" ]]; then
  "${isolate[@]}" true 2>/dev/null || skip "this machine does not let root make namespaces and mounts"
  MNEME_DEBOOTSTRAP_ISOLATED=1 exec "${isolate[@]}" "${BASH_SOURCE[0]}" "${arguments[@]}"
fi

work="$(mktemp -d "${TMPDIR:-/tmp}/mneme-debootstrap.XXXXXX")"
chmod 755 "${work}"

mounts_below() {
  awk -v work="${work}/" 'index($5, work) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}

# Unmounts everything under the work folder, deepest first; fails if something
# stays mounted.
unmount_all() {
  local point tries
  for tries in 1 2 3; do
    while read -r point; do
      umount "${point}" 2>/dev/null || true
    done < <(mounts_below)
    [[ -n "$(mounts_below)" ]] || return 0
    sleep "${tries}"
  done
  return 1
}

clean_up() {
  local status=$?
  trap - EXIT
  trap '' INT TERM HUP
  if ! unmount_all; then
    printf '%s: still mounted, so nothing is deleted: %s\n' "${script_name}" "$(mounts_below | tr '\n' ' ')" >&2
    ((status != 0)) || status=1
  elif ((keep)); then
    say "kept ${work}"
  else
    rm -rf --one-file-system "${work}"
  fi
  exit "${status}"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# 1. Where this machine gets Debian 12 from, as apt itself reads its sources:
# "URI release component" a line.
# shellcheck disable=SC2016
mapfile -t sources < <(apt-get indextargets \
  --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
  awk -v suite="${suite}" 'index($2, suite) == 1 && !seen[$0]++')
mirror="$(printf '%s\n' "${sources[@]}" | awk -v suite="${suite}" '$2 == suite && $3 == "main" { print $1; exit }')"
[[ -n "${mirror}" ]] || skip "apt on this machine has no source for Debian ${suite} main"

# debootstrap and wget take the proxy from the environment; apt may have one of
# its own.
apt_proxy="$(apt-config shell proxy Acquire::http::Proxy)"
eval "${apt_proxy}"
if [[ -z "${http_proxy:-}" && -n "${proxy:-}" && "${proxy}" != DIRECT ]]; then
  export http_proxy="${proxy}"
fi

# make_root ROOT: a bare Debian that fetches packages like this machine does.
make_root() {
  local root="$1" line path
  mkdir "${root}"
  if ! debootstrap --variant=minbase "${suite}" "${root}" "${mirror}" >"${root}.log" 2>&1; then
    tail -n 30 "${root}.log" >&2
    die "debootstrap failed"
  fi
  for line in "${sources[@]}"; do
    printf 'deb %s\n' "${line}"
  done >"${root}/etc/apt/sources.list"
  # How to reach the sources, and whom to trust; not hooks, which may call
  # programs that the root lacks.
  apt-config dump --format '%F "%v";%n' |
    grep -E '^Acquire::(http|https|ftp|Check-|Retries|Force|Allow)' >"${root}/etc/apt/apt.conf.d/50machine" || true
  for path in /etc/apt/auth.conf.d /etc/apt/trusted.gpg.d /etc/apt/keyrings; do
    if [[ -d "${path}" ]]; then
      mkdir -p "${root}${path}"
      cp -aL "${path}/." "${root}${path}/"
    fi
  done
  for path in /etc/apt/auth.conf /etc/resolv.conf /etc/hosts; do
    if [[ -e "${path}" ]]; then
      cp -aL --remove-destination "${path}" "${root}${path}"
    fi
  done
  if [[ "${sources[*]}" == *https:* && -f /etc/ssl/certs/ca-certificates.crt ]]; then
    mkdir -p "${root}/etc/ssl/certs"
    cp -L /etc/ssl/certs/ca-certificates.crt "${root}/etc/ssl/certs/"
  fi
  # Services that a package would start stay down.
  printf '#!/bin/sh\nexit 101\n' >"${root}/usr/sbin/policy-rc.d"
  chmod +x "${root}/usr/sbin/policy-rc.d"
  mount -t proc -o nosuid,nodev,noexec proc "${root}/proc"
  mount --bind /dev "${root}/dev"
  mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "${root}/dev/shm" 2>/dev/null || true
}

# in_root ROOT COMMAND...: runs it as root there, in a clean environment.
in_root() {
  local root="$1" name proxies=()
  shift
  for name in http_proxy https_proxy no_proxy; do
    if [[ -n "${!name:-}" ]]; then
      proxies+=("${name}=${!name}")
    fi
  done
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    "${proxies[@]}" chroot "${root}" "$@" </dev/null
}

# 2. The quick start and the tests in a bare root.
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

# 3. The run-time stage of the Dockerfile: the run-time packages alone must
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
