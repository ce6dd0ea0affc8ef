#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A daemon that finds many cold sessions takes no more memory for them than it
publishes.

    start_test.py --mnemed PATH --mkmodel PATH --fill PATH [--sessions N]
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

import daemon as daemons

MIB = 1 << 20


def metrics_of(daemon):
    """Values by name and labels, as the page spells them."""
    with urllib.request.urlopen(f"http://{daemon.metrics_address}/metrics", timeout=60) as page:
        lines = page.read().decode().splitlines()
    return {key: float(value) for key, value in
            (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))}


def start(mnemed, model, folder, data):
    """Seconds until it is ready, resident memory then, and its metrics."""
    begin = time.monotonic()
    with daemons.Daemon(mnemed, model, folder, "--no-ephemeral", "--data-dir", str(data),
                        "--session-memory", "2G") as daemon:
        seconds = time.monotonic() - begin
        resident = daemon.resident_bytes()
        return seconds, resident, metrics_of(daemon)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for program in ("mnemed", "mkmodel", "fill"):
        parser.add_argument(f"--{program}", required=True)
    parser.add_argument("--sessions", type=int, default=3000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mneme-start-") as name:
        folder = pathlib.Path(name)
        model = daemons.make_model(args.mkmodel, folder)
        subprocess.run([args.fill, str(folder / "full"), str(args.sessions), "tiny", str(model)],
                       check=True)
        _, empty, _ = start(args.mnemed, model, folder, folder / "empty")
        # The first start brings into tables what was written last.
        for _ in range(2):
            seconds, resident, metrics = start(args.mnemed, model, folder, folder / "full")
            index = metrics["mneme_index_bytes"]
            constants = sum(value for key, value in metrics.items()
                            if key.startswith("mneme_constant_bytes"))
            model_bytes = sum(metrics[f'mneme_model_bytes{{model="tiny",term="{term}"}}']
                              for term in ("weights", "scratch", "transfer"))
            bound = model_bytes + constants + index
            print(f"{args.sessions} sessions: ready after {seconds:.2f} s; resident "
                  f"{resident / MIB:.1f} MiB, {empty / MIB:.1f} without sessions, "
                  f"{(resident - empty) / args.sessions:.0f} bytes a session, published "
                  f"{index / args.sessions:.0f}; bound {bound / MIB:.1f} MiB", flush=True)
            found = metrics['mneme_sessions{model="tiny",state="cold"}']
            assert found == args.sessions, f"{found} sessions are cold"
            assert metrics['mneme_sessions{model="tiny",state="hot"}'] == 0
            assert resident <= bound, f"resident memory is {resident}, the terms {bound}"
            # What a store in use holds in buffers it does not hold yet.
            store = metrics['mneme_constant_bytes{part="store"}']
            assert resident - empty <= index + store, \
                f"{resident - empty} bytes for the sessions, published are {index}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
