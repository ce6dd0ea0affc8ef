#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Promise 1 through the real daemon: a million tokens into one session leave
its resident memory where the first hundred thousand put it. (By then snapshots
have been taken several times, and what that needs is there.)"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile

MIB = 1 << 20
FIRST = 100_000
TOTAL = 1_000_000


def resident_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


def main():
    parser = argparse.ArgumentParser()
    for program in ("mnemed", "mneme", "mkmodel"):
        parser.add_argument(f"--{program}", required=True)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as work:
        model = os.path.join(work, "model")
        subprocess.run([args.mkmodel, "--preset", "ttt-linear-tiny", "--seed", "1", "--out", model],
                       check=True, stdout=subprocess.DEVNULL)
        numbers = random.Random(1)
        text = bytes(numbers.randrange(32, 127) for _ in range(TOTAL))
        for name, part in (("first", text[:FIRST]), ("rest", text[FIRST:])):
            with open(os.path.join(work, name), "wb") as out:
                out.write(part)

        daemon = subprocess.Popen(
            [args.mnemed, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
             "--admin-listen", "127.0.0.1:0",
             "--model", f"tiny={model}", "--ephemeral"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            ready = daemon.stdout.readline()
            address = dict(word.split("=", 1) for word in ready.split()[2:])["listen"]

            def mneme(*words):
                return subprocess.run([args.mneme, "--address", address, *words], check=True,
                                      stdout=subprocess.PIPE, text=True).stdout

            mneme("sessions", "create", "book", "--model", "tiny")
            mneme("append", "book", os.path.join(work, "first"), "--message-bytes", "4096")
            early = json.loads(mneme("sessions", "show", "book", "--json"))
            before = resident_bytes(daemon.pid)
            mneme("append", "book", os.path.join(work, "rest"), "--message-bytes", "4096")
            late = json.loads(mneme("sessions", "show", "book", "--json"))
            after = resident_bytes(daemon.pid)
        finally:
            daemon.send_signal(signal.SIGTERM)
            status = daemon.wait(60)

        growth = after - before
        print(f"resident {before} bytes after {early['position']} tokens, {after} after "
              f"{late['position']}: grew by {growth}; state {late['stateBytes']} bytes")
        assert int(late["nextOffset"]) == TOTAL, late
        assert late["stateBytes"] == early["stateBytes"], (early, late)
        assert growth < 2 * MIB, f"resident memory grew by {growth} bytes, want below {2 * MIB}"
        assert status == 0, f"mnemed ended with {status}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
