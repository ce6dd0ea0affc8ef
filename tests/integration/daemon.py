# SPDX-License-Identifier: Apache-2.0
"""A mnemed for a test: on free ports, with one tiny random model "tiny"."""

import os
import pathlib
import selectors
import signal
import subprocess
import sys

START_SECONDS = 60
STOP_SECONDS = 60


def make_model(mkmodel, folder, preset="ttt-linear-tiny"):
    """Writes a model of random weights; returns its folder."""
    model = pathlib.Path(folder) / preset
    subprocess.run([mkmodel, "--preset", preset, "--seed", "1", "--out", str(model)],
                   check=True, stdout=subprocess.DEVNULL)
    return model


class Daemon:
    """Starts at once. As a context it ends with its block, which fails if the
    daemon then does not end well."""

    def __init__(self, mnemed, model, folder, *flags):
        self.log_path = pathlib.Path(folder) / "mnemed.log"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [mnemed, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
                 "--admin-listen", "127.0.0.1:0",
                 "--model", f"tiny={model}", "--ephemeral", *flags],
                stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            words = self._read_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            self.show_log()
            raise
        self.pid = self.process.pid
        self.address = words["listen"]
        self.metrics_address = words["metrics"]

    def _read_ready(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(START_SECONDS), "mnemed did not get ready"
        line = self.process.stdout.readline()
        assert line.startswith("mnemed ready "), f"unexpected first line: {line!r}"
        return dict(word.split("=", 1) for word in line.split()[2:] if "=" in word)

    def show_log(self):
        print("-- log of mnemed:", file=sys.stderr)
        print(self.log_path.read_text(errors="replace"), file=sys.stderr)

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")

    def stop(self):
        """Asks it to drain; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "none: it did not end after SIGTERM"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        status = self.stop()
        if kind is None:
            if status != 0:
                self.show_log()
            assert status == 0, f"exit status after SIGTERM is {status}, wanted 0"


def environment(daemon):
    """For programs that take the address from their environment."""
    return {**os.environ, "MNEME_ADDRESS": daemon.address}
