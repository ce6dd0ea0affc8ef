#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A mnemed is killed with SIGKILL at random moments and started again, while a
client works on many sessions: in the end every session, and every answer that
was read, is as if it had never been.

    crash_test.py --mnemed PATH --driver PATH --mkmodel PATH [--kills N] [--seed N]
"""

import argparse
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

PRESETS = ("ttt-linear-tiny", "infini-tiny", "hybrid-tiny")
PATIENCE_SECONDS = 600
# Of the kills, those that come without regard to what was done since the start.
EARLY_SHARE = 0.3


class Driver:
    """One run of the script."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines = []
        self.steps = 0
        self.news = threading.Condition()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self.news:
                self.lines.append(line.rstrip("\n"))
                self.steps += line.startswith("done ")
                self.news.notify_all()
        with self.news:
            self.steps = float("inf")
            self.news.notify_all()

    def await_steps(self, steps):
        """False if it ended before it had done so many."""
        with self.news:
            assert self.news.wait_for(lambda: self.steps >= steps, PATIENCE_SECONDS), \
                "the script goes no further"
            return self.steps != float("inf")

    def finish(self):
        """What it found, by the words that name it; fails if it failed."""
        status = self.process.wait(PATIENCE_SECONDS)
        self.reader.join()
        assert status == 0, "the script ended with %s: %s" % (
            status, [line for line in self.lines if line.startswith("error ")])
        return {tuple(line.split(" ", 2)[:2]): line for line in self.lines
                if line.startswith(("session ", "replies "))}

    def breaks(self):
        return int(next(line.split()[1] for line in self.lines if line.startswith("breaks ")))


class Daemon:
    def __init__(self, command, log):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def await_ready(self):
        assert self.process.stdout.readline().startswith("mnemed ready"), "mnemed did not start"

    def kill(self):
        """Fails if it had ended by itself. True if it was ready."""
        assert self.process.poll() is None, "mnemed ended with %s" % self.process.returncode
        self.process.kill()
        self.process.wait()
        return self.process.stdout.readline() != ""

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE_SECONDS)
        assert status == 0, "mnemed ended with %s after SIGTERM" % status


def kill_often(start, driver, kills, numbers, steps_a_life):
    """Returns the daemon that is left running, and how many of those killed
    were not ready yet."""
    unready = 0
    start_seconds = 0.3
    for killed in range(kills):
        began = time.monotonic()
        daemon = start()
        if numbers.random() < EARLY_SHARE:
            time.sleep(numbers.uniform(0, 1.5 * start_seconds))
            unready += not daemon.kill()
            continue
        daemon.await_ready()
        start_seconds = time.monotonic() - began
        wanted = driver.steps + numbers.expovariate(1 / steps_a_life)
        if not driver.await_steps(wanted):
            driver.finish()
            sys.exit("the script ended after %d kills: want more --steps" % killed)
        time.sleep(numbers.uniform(0, 0.03))
        daemon.kill()
    daemon = start()
    daemon.await_ready()
    return daemon, unready


def differences(wanted, found):
    return ["found  %s\nwanted %s" % (found.get(name), wanted.get(name))
            for name in sorted(set(wanted) | set(found)) if found.get(name) != wanted.get(name)]


def main():
    parser = argparse.ArgumentParser()
    for name in ("mnemed", "driver", "mkmodel"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=18)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    numbers = random.Random(arguments.seed)

    with tempfile.TemporaryDirectory(prefix="mneme-crash-") as scratch:
        scratch = pathlib.Path(scratch)
        address = "unix:%s/socket" % scratch
        models = []
        for preset in PRESETS:
            subprocess.run([arguments.mkmodel, "--preset", preset, "--seed", "1", "--out",
                            str(scratch / preset)], check=True, stdout=subprocess.DEVNULL)
            models += ["--model", "%s=%s" % (preset, scratch / preset)]

        def run(steps):
            return Driver([arguments.driver, "--address", address, "--seed", str(arguments.seed),
                           "--sessions", str(arguments.sessions), "--steps", str(steps), *PRESETS])

        log_path = scratch / "log"
        with open(log_path, "ab") as log:

            def start(*flags):
                return Daemon([arguments.mnemed, "--listen", address, "--metrics-listen", "none",
                               "--admin-listen", "none", "--threads", "1", *models, *flags], log)

            # All that is kept stays within reach: which states are, depends on
            # when they were put out of memory.
            def start_stored():
                return start("--data-dir", str(scratch / "data"), "--session-memory", "12M",
                             "--snapshot-interval", "300", "--snapshots-kept", "40")

            driver = None
            try:
                daemon = start("--ephemeral", "--session-memory", "1G", "--snapshot-interval",
                               "300", "--snapshots-kept", "40")
                daemon.await_ready()
                driver = run(arguments.steps)
                wanted = driver.finish()
                daemon.stop()

                driver = run(arguments.steps)
                total_steps = arguments.steps * arguments.sessions
                daemon, unready = kill_often(start_stored, driver, arguments.kills, numbers,
                                             0.6 * total_steps / arguments.kills)
                left = arguments.steps * arguments.sessions - driver.steps
                wrong = differences(wanted, driver.finish())
                breaks = driver.breaks()
                daemon.stop()

                # What a clean end leaves is the same again.
                daemon = start_stored()
                daemon.await_ready()
                driver = run(0)
                found = driver.finish()
                wrong += differences({name: line for name, line in wanted.items()
                                      if name[0] == "session"},
                                     {name: line for name, line in found.items()
                                      if name[0] == "session"})
                daemon.stop()
            except BaseException:
                print(log_path.read_text(errors="replace")[-20000:], file=sys.stderr)
                if driver is not None:
                    driver.process.kill()
                daemon.process.kill()
                raise
        print("\n".join(wrong))
        print("%d kills, %d of them before it was ready, %d calls broken; %d of %d steps were done "
              "after the last; %d sessions, %d of them forks; %d wrong" %
              (arguments.kills, unready, breaks, left, total_steps,
               sum(name[0] == "session" for name in wanted),
               sum(name[0] == "session" for name in wanted) - arguments.sessions, len(wrong)))
        if breaks == 0:
            sys.exit("no call was broken, so nothing was tested")
        sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
