#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An engine is killed with SIGKILL at random moments and started again: in the
end every session is as if it had never been.

    crash_test.py --driver PATH --mkmodel PATH [--kills N] [--seed N]
"""

import argparse
import pathlib
import random
import subprocess
import sys
import tempfile
import threading

PRESETS = ("ttt-linear-tiny", "infini-tiny", "hybrid-tiny")


class Run:
    """One life of the driver."""

    def __init__(self, command, known):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)
        self.lines = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        try:
            self.process.stdin.write("".join(line + "\n" for line in known) + "go\n")
            self.process.stdin.close()
        except BrokenPipeError:
            pass

    def _read(self):
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.lines.append(line.rstrip("\n"))

    def wait(self, seconds):
        """Its exit status, or None if it was killed after `seconds`."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        return None if self.process.returncode == -9 else self.process.returncode


def digests(lines):
    return {line.split()[1]: line.split()[2:] for line in lines if line.startswith("digest ")}


def errors(lines):
    return [line for line in lines if line.startswith("error ")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--driver", required=True)
    parser.add_argument("--mkmodel", required=True)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=18)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--mean-life", type=float, default=0.4, help="seconds before a kill")
    arguments = parser.parse_args()
    numbers = random.Random(arguments.seed)

    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        models = []
        for preset in PRESETS:
            models.append(str(scratch / preset))
            subprocess.run([arguments.mkmodel, "--preset", preset, "--seed", "1", "--out",
                            models[-1]], check=True, stdout=subprocess.DEVNULL)

        def command(memory, *more):
            return [arguments.driver, "--seed", str(arguments.seed), "--sessions",
                    str(arguments.sessions), "--steps", str(arguments.steps), "--memory",
                    str(memory), *more, *models]

        wanted_run = Run(command(1 << 30), [])
        if wanted_run.wait(600) != 0:
            sys.exit("the run that is never killed failed: %s" % errors(wanted_run.lines))
        wanted = digests(wanted_run.lines)

        known, kills, tiers = [], 0, 0
        while True:
            # Room for a few of the sessions at a time.
            run = Run(command(20 << 20, "--data", str(scratch / "data")), known)
            patience = 600 if kills >= arguments.kills else numbers.expovariate(1 / arguments.mean_life)
            status = run.wait(patience)
            known += [line for line in run.lines if line.startswith(("begin ", "done "))]
            if errors(run.lines):
                sys.exit("after %d kills: %s" % (kills, errors(run.lines)))
            if status is None:
                kills += 1
                continue
            if status != 0:
                sys.exit("after %d kills it ended with %d" % (kills, status))
            break
        found = digests(run.lines)
        wrong = [name for name in sorted(wanted) if found.get(name) != wanted[name]]
        for name in wrong:
            print("%s: found %s, wanted %s" % (name, found.get(name), wanted[name]))
        extra = sorted(set(found) - set(wanted))
        print("%d kills, %d sessions, %d of them forks, %d wrong, %d too many" %
              (kills, len(wanted), len(wanted) - arguments.sessions, len(wrong), len(extra)))
        if kills < arguments.kills:
            sys.exit("the script ended before it was killed %d times: want more --steps" %
                     arguments.kills)
        sys.exit(1 if wrong or extra else 0)


if __name__ == "__main__":
    main()
