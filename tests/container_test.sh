#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Proves the container image without a container engine: carries out the steps
# of the Dockerfile in Debian roots made with debootstrap, then runs what the
# last stage leaves as the image would be run in earnest: as its user, with its
# entrypoint and health check, on a read-only root with one volume. Exits 77,
# which ctest counts as skipped, where it cannot be done.
set -euo pipefail

source_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
. "${source_root}/deploy/common.sh"

keep=0
arguments=("$@")
while (($# > 0)); do
  case "$1" in
    --keep) keep=1; shift ;;
    *) die "unknown argument '$1'; usage: ${script_name} [--keep]" ;;
  esac
done

command -v ip >/dev/null || { printf 'skipped: ip is not installed\n'; exit 77; }
. "${source_root}/tests/debootstrap_common.sh"

# What `docker build` would send: this tree without what .dockerignore names.
context="${work}/context"
mkdir "${context}"
mapfile -t ignored < <(sed -e '/^#/d' -e '/^$/d' -e 's|^\*\*/|*/|' -e 's|^\([^*]\)|./\1|' \
  -e 's|^|--exclude=|' "${source_root}/.dockerignore")
tar -C "${source_root}" "${ignored[@]}" -cf - . | tar -C "${context}" --no-same-owner -xf -

# The stage that is being made.
root="" directory=/ user=root
environment=() entrypoint=() health=() volumes=()
declare -A stages
count=0

# within ROOT DIRECTORY COMMAND...: runs it there as root, with the stage's
# environment.
within() {
  local in="$1" at="$2"
  shift 2
  in_root "${in}" /usr/bin/env "${environment[@]}" /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "${at}" "$@"
}

from() {  # IMAGE [AS NAME]
  [[ "$1" == debian:bookworm || "$1" == debian:bookworm-slim ]] || die "FROM $1: want Debian bookworm"
  root="${work}/stage$((count += 1))"
  directory=/ user=root
  environment=() entrypoint=() health=() volumes=()
  make_root "${root}"
  if [[ "${2:-}" == AS ]]; then
    stages["$3"]="${root}"
  fi
}

copy() {  # [--from=STAGE] SOURCE... TARGET
  local base="${context}" target source
  if [[ "$1" == --from=* ]]; then
    base="${stages[${1#--from=}]}"
    shift
  fi
  target="${*: -1}"
  [[ "${target}" == /* ]] || target="${directory}/${target}"
  mkdir -p "${root}${target}"
  for source in "${@:1:$#-1}"; do
    if [[ -d "${base}/${source}" ]]; then
      cp -r "${base}/${source}/." "${root}${target}/"
    else
      cp "${base}/${source}" "${root}${target}/"
    fi
  done
}

run() {
  say "RUN ${1:0:60}..."
  if ! within "${root}" "${directory}" /bin/sh -c "$1" >"${work}/run.log" 2>&1; then
    tail -n 60 "${work}/run.log" >&2
    die "RUN $1"
  fi
}

while IFS=$'\t' read -r instruction rest; do
  read -r -a parts <<<"${rest}"
  case "${instruction}" in
    FROM) from "${parts[@]}" ;;
    COPY) copy "${parts[@]}" ;;
    RUN) run "${rest}" ;;
    ENV) environment+=("${parts[@]}") ;;
    USER) user="${rest}" ;;
    WORKDIR) directory="${rest}"; mkdir -p "${root}${directory}" ;;
    VOLUME) IFS=$'\t' read -r -a volumes <<<"${rest}" ;;
    HEALTHCHECK) IFS=$'\t' read -r -a health <<<"${rest}" ;;
    ENTRYPOINT) IFS=$'\t' read -r -a entrypoint <<<"${rest}" ;;
    EXPOSE) ;;
  esac
done < <("${source_root}/tests/dockerfile_steps.py" "${source_root}/Dockerfile" || echo FAILED)
[[ "${instruction:-}" != FAILED ]] || die "the Dockerfile holds what this test cannot carry out"

[[ "${user}" != root ]] || die "the image runs as root"
((${#health[@]} > 0)) || die "the image has no HEALTHCHECK"
((${#volumes[@]} == 1)) || die "the image has ${#volumes[@]} volumes, want 1"
for tool in g++ gcc cc clang cmake make ninja; do
  if in_root "${root}" /bin/sh -c "command -v ${tool}" >/dev/null; then
    die "the image holds ${tool}"
  fi
done

# The image as it is run: a read-only root, one volume, a network of its own.
image="${work}/image"
mkdir "${image}"
mount --rbind "${root}" "${image}"
mount -o remount,bind,ro "${image}"
mount -t tmpfs -o mode=0755 tmpfs "${image}${volumes[0]}"
chown --reference="${root}${volumes[0]}" "${image}${volumes[0]}"

# Before a command: runs it there as the image's user, as the process itself.
as_user=(env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${environment[@]}"
  chroot "--userspec=${user}:${user}" "${image}")
if chroot "${image}" /usr/bin/touch /written 2>/dev/null; then
  die "the root is not read-only"
fi
"${as_user[@]}" mneme-mkmodel --preset ttt-linear-tiny --seed 1 --out "${volumes[0]}/model" >/dev/null

serve() {
  local tick status=0
  ip link set lo up
  "${as_user[@]}" "${entrypoint[@]}" --model "tiny=${volumes[0]}/model" --ephemeral >"${work}/ready" 2>"${work}/mnemed.log" &
  local daemon=$!
  for ((tick = 0; tick < 600; ++tick)); do
    if "${as_user[@]}" "${health[@]}" >/dev/null 2>&1; then break; fi
    kill -0 "${daemon}" 2>/dev/null || { tail "${work}/mnemed.log" >&2; die "mnemed ended"; }
    sleep 0.1
  done
  "${as_user[@]}" "${health[@]}" || die "the health check fails: ${health[*]}"
  "${as_user[@]}" mneme sessions create s >/dev/null
  kill -TERM "${daemon}"
  wait "${daemon}" || status=$?
  ((status == 0)) || die "mnemed ended with status ${status} on SIGTERM, wanted 0"
  if "${as_user[@]}" "${health[@]}" >/dev/null 2>&1; then
    die "the health check passes without a daemon"
  fi
}
export -f serve die
export work script_name
unshare --net bash -euo pipefail -c "$(declare -p as_user entrypoint health volumes)
  serve" || die "the image does not run"
say "passed"
