# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For scripts that work in Debian roots of their own making; sourced, not run.
# Wants `arguments` (the script's), `keep` (1: leave the roots) and common.sh.
# Puts the script into namespaces of its own, makes the folder `work`, which
# goes when the script ends, and gives make_root and in_root. Ends the script
# with 77, which ctest counts as skipped, where it cannot be done.

readonly suite=bookworm

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
  MNEME_DEBOOTSTRAP_ISOLATED=1 exec "${isolate[@]}" "$0" "${arguments[@]}"
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

# Where this machine gets Debian 12 from, as apt itself reads its sources:
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
  mount --bind /dev/pts "${root}/dev/pts"
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
