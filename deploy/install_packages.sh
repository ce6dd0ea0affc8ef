#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages of the named sections of deploy/packages.txt,
# as far as they are missing. With nothing missing it needs no network and no
# rights, and prints nothing.
set -euo pipefail
export LC_ALL=C

here="$(dirname "${BASH_SOURCE[0]}")"
. "${here}/common.sh"

list="${here}/packages.txt"
sections="$(sed -n 's/^\([a-z]\{1,\}\) .*/\1/p' "${list}" | sort -u | tr '\n' ' ')"
usage="usage: ${script_name} SECTION...   (sections: ${sections% })"

if [[ "${1:-}" == --help || "${1:-}" == -h ]]; then
  printf '%s\n' "${usage}"
  exit 0
fi
(($# > 0)) || die "no section given; ${usage}"

packages=()
for section in "$@"; do
  [[ " ${sections}" == *" ${section} "* ]] || die "unknown section '${section}'; ${usage}"
  while read -r package; do
    packages+=("${package}")
  done < <(sed -n "s/^${section} \{1,\}//p" "${list}")
done

for tool in dpkg-query apt-get; do
  command -v "${tool}" >/dev/null ||
    die "this machine has no ${tool}; the packages in ${list} are Debian 12's"
done

# dpkg-query fails when it does not know a package; that one is then missing.
installed="$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null |
  sed -n 's/^installed //p')" || true
mapfile -t missing < <(comm -23 <(printf '%s\n' "${packages[@]}" | sort -u) \
  <(sort -u <<<"${installed}"))
((${#missing[@]} > 0)) || exit 0

system="$(sed -n 's/^\(ID\|VERSION_ID\)="\{0,1\}\([^"]*\).*/\2/p' /etc/os-release 2>/dev/null |
  sort -r | tr '\n' ' ')" || true
if [[ "${system}" != "debian 12 " ]]; then
  printf '%s: warning: this is "%s", not Debian 12; package names may differ\n' \
    "${script_name}" "${system% }" >&2
fi

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null ||
    die "these packages are missing: ${missing[*]}; run this as root, or install sudo"
  as_root=(sudo)
fi

log="$(mktemp)"
trap 'rm -f "${log}"' EXIT

apt_get() {
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" \
    >>"${log}" 2>&1; then
    tail -n 60 "${log}" >&2
    die "apt-get $1 failed; its output is above"
  fi
}

say "installing ${#missing[@]} missing packages ($*): ${missing[*]}"
apt_get update
apt_get install --no-install-recommends "${missing[@]}"
