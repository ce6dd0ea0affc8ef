#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a bare Debian 12 to a running daemon in one command: installs what is
# missing, builds, starts mnemed on a random-weight model, streams a book into
# a session, scores and generates, and shows that memory stays flat.
set -euo pipefail
export LC_ALL=C.UTF-8

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
. "${root}/deploy/common.sh"

readonly first_bytes=10000 score_bytes=20000
readonly build_dir="${root}/build/quickstart"
readonly bin="${build_dir}/bin"

book_bytes=1000000
keep=0

usage() {
  cat <<USAGE
usage: ${script_name} [--bytes N] [--keep]
  --bytes N   how much of the book to stream into the session (default ${book_bytes})
  --keep      leave the daemon running at the end, and say where it is
USAGE
}

while (($# > 0)); do
  case "$1" in
    --bytes)
      [[ "${2:-}" =~ ^[1-9][0-9]{0,8}$ ]] || die "--bytes wants a whole number, found '${2:-}'"
      book_bytes="$2"
      shift 2
      ;;
    --keep) keep=1; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown argument '$1'" ;;
  esac
done
((book_bytes > first_bytes)) || die "--bytes wants more than ${first_bytes}, found ${book_bytes}"

work=""
daemon=""

# True while the daemon runs; a dead child that was not waited for is a zombie.
daemon_runs() {
  local state
  [[ -n "${daemon}" ]] || return 1
  state="$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/${daemon}/status" 2>/dev/null)" || return 1
  [[ -n "${state}" && "${state}" != Z ]]
}

# stop_daemon SECONDS: SIGTERM, then SIGKILL after SECONDS. Returns its status.
stop_daemon() {
  local tick status=0
  kill -TERM "${daemon}" 2>/dev/null || true
  for ((tick = 0; tick < $1 * 10; ++tick)); do
    daemon_runs || break
    sleep 0.1
  done
  if daemon_runs; then
    kill -KILL "${daemon}" 2>/dev/null || true
  fi
  wait "${daemon}" || status=$?
  daemon=""
  return "${status}"
}

clean_up() {
  local status=$?
  trap - EXIT
  trap '' INT TERM HUP
  if ((status != 0)); then
    if [[ -n "${work}" && -s "${work}/mnemed.log" ]]; then
      printf '%s: the end of the log of mnemed:\n' "${script_name}" >&2
      tail -n 30 "${work}/mnemed.log" >&2
    fi
    printf '%s: failed with status %d\n' "${script_name}" "${status}" >&2
  fi
  if [[ -n "${daemon}" ]]; then
    stop_daemon 10 || true
  fi
  if [[ -n "${work}" ]]; then
    rm -rf "${work}"
  fi
  exit "${status}"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

mneme() { "${bin}/mneme" --address "${listen}" "$@"; }

# Shows a command as one would type it.
show() {
  printf '\n$'
  printf ' %q' "$@"
  printf '\n'
}

# Shows a client command, then runs it.
client() {
  show mneme "$@"
  mneme "$@"
}

# json_field NAME JSON: the value of the first string or number field so named.
json_field() {
  local value
  value="$(grep -o "\"$1\" *: *\"\{0,1\}[^\",}]*" <<<"$2" | sed -n "1s/^\"$1\" *: *\"\{0,1\}//p")" || true
  [[ -n "${value}" ]] || die "no field \"$1\" in: $2"
  printf '%s' "${value}"
}

resident_kib() { sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/${daemon}/status"; }

# 1. Packages and programs.
"${root}/deploy/install_packages.sh" build demo

say "building mnemed, mneme and mneme-mkmodel in ${build_dir} (minutes the first time)"
export CCACHE_BASEDIR="${CCACHE_BASEDIR:-${root}}"
cd "${root}"
quietly "${build_dir}/configure.log" cmake --preset release -B "${build_dir}" \
  -DMNEME_BUILD_TESTS=OFF -DMNEME_BUILD_BENCH=OFF
cmake_build "${build_dir}" --target mnemed mneme mneme-mkmodel

# 2. A model and a book.
work="$(mktemp -d "${TMPDIR:-/tmp}/mneme-quickstart.XXXXXX")"
say "making a model of RANDOM weights: what follows shows the machinery, not language skill"
"${bin}/mneme-mkmodel" --preset ttt-linear-tiny --seed 1 --out "${work}/model" >"${work}/mkmodel.log" ||
  die "mneme-mkmodel failed"

# One verse a line, without its reference ("Ge1:1 ").
bible -f gen1:1-rev22:21 </dev/null | sed 's/^[^ ]* //' >"${work}/all.txt"
all_bytes="$(wc -c <"${work}/all.txt")"
((book_bytes + score_bytes <= all_bytes)) ||
  die "--bytes wants at most $((all_bytes - score_bytes)), found ${book_bytes}"
head -c "${first_bytes}" "${work}/all.txt" >"${work}/first.txt"
head -c "${book_bytes}" "${work}/all.txt" | tail -c "+$((first_bytes + 1))" >"${work}/book.txt"
tail -c "+$((book_bytes + 1))" "${work}/all.txt" >"${work}/rest.txt"
head -c "${score_bytes}" "${work}/rest.txt" >"${work}/next.txt"
rm "${work}/all.txt" "${work}/rest.txt"

# 3. The daemon, in a process group of its own so that only we signal it.
: >"${work}/ready"
setsid "${bin}/mnemed" --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 --admin-listen none \
  --model "tiny=${work}/model" --ephemeral >"${work}/ready" 2>"${work}/mnemed.log" </dev/null &
daemon=$!
ready=""
for ((tick = 0; tick < 600; ++tick)); do
  ready="$(sed -n '/^mnemed ready /p' "${work}/ready")"
  [[ -z "${ready}" ]] || break
  daemon_runs || die "mnemed ended before it was ready"
  sleep 0.1
done
[[ "${ready}" =~ \ listen=([^ ]+) ]] || die "mnemed gave no 'mnemed ready listen=...' line in 60 s"
listen="${BASH_REMATCH[1]}"
[[ "${ready}" =~ \ metrics=([^ ]+) ]] || die "mnemed named no metrics address: ${ready}"
metrics_url="http://${BASH_REMATCH[1]}/metrics"
say "${ready}"

# 4. Stream, score, generate. The first bytes make the daemon allocate what it
# allocates lazily, so that the second figure shows what streaming adds.
client sessions create book --model tiny
client append book "${work}/first.txt" --message-bytes 16384
rss_before="$(resident_kib)"
client append book "${work}/book.txt" --message-bytes 16384
rss_after="$(resident_kib)"

client score book "${work}/next.txt" | tee "${work}/score"
bits="$(sed -n -e 's/.*[^0-9.]\([0-9][0-9.]*\) *bits\/byte.*/\1/p;t' -e 's/^\([0-9][0-9.]*\) *bits\/byte.*/\1/p;t' \
  -e 's/.*bits\/byte[^0-9]*\([0-9][0-9.]*\).*/\1/p' "${work}/score")"
[[ -n "${bits}" ]] || die "mneme score named no bits/byte"

generate=(generate book --prompt "And it came to pass" --max-tokens 200 --temperature 0.8 --seed 7)
show mneme "${generate[@]}"
mneme "${generate[@]}" >"${work}/reply"
generated_bytes="$(wc -c <"${work}/reply")"
cat -v "${work}/reply" | cut -c 1-200 | sed -n '1,20p'

show mneme sessions show book --json
session="$(mneme sessions show book --json)"
printf '%s\n' "${session}"
position="$(json_field position "${session}")"
for field in stateDigest historyDigest; do
  json_field "${field}" "${session}" >/dev/null
done
state_bytes="$(json_field stateBytes "$(mneme models show tiny --json)")"

show curl "${metrics_url}"
curl -fsS --max-time 20 "${metrics_url}" >"${work}/metrics"
grep -E '^mneme_(append_bytes_total|append_tokens_total|scored_tokens_total|generated_tokens_total|state_bytes|sessions)[ {]' \
  "${work}/metrics" || die "none of the usual metrics at ${metrics_url}"

# 5. The end.
if ((!keep)); then
  stop_daemon 60 || die "mnemed ended with status $? on SIGTERM, wanted 0"
fi

row() { printf '  %-34s %s\n' "$1" "$2"; }
printf '\nRandom weights: the figures show the machinery, not language skill.\n'
row "bytes streamed" "${book_bytes}"
row "tokens in the session" "${position}"
row "bits/byte of the next ${score_bytes} bytes" "${bits}"
row "bytes generated" "${generated_bytes}"
row "resident KiB after ${first_bytes} bytes" "${rss_before}"
row "resident KiB after ${book_bytes} bytes" "${rss_after}"
row "state bytes" "${state_bytes}"
row "metrics" "${metrics_url}"

if ((keep)); then
  printf '\nmnemed is running: pid %s, address %s, model and log in %s\n' "${daemon}" "${listen}" "${work}"
  printf 'try:  %s --address %s sessions list\nstop: kill %s\n' "${bin}/mneme" "${listen}" "${daemon}"
  daemon=""
  work=""
fi
