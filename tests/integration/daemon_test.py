#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The real daemon as an operator meets it: its configuration, two of them on
one machine, what they refuse to listen on, and models that come and go.

    daemon_test.py --mnemed PATH --mneme PATH --mkmodel PATH --example FILE
"""

import argparse
import json
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import tempfile
import tomllib
import unittest

try:
    import grpc
except ImportError:
    grpc = None

SECONDS = 60  # Nothing here takes nearly as long; a hang fails instead.

ARGS = None


def run(*command, code=0):
    done = subprocess.run([str(part) for part in command], capture_output=True,
                          text=True, timeout=SECONDS)
    assert done.returncode == code, (command, done)
    return done


class Daemon:
    """A mnemed that is ready; `words` is what its first line says."""

    def __init__(self, *flags):
        self.process = subprocess.Popen(
            [ARGS.mnemed, "--ephemeral", *map(str, flags)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(SECONDS), "mnemed did not get ready"
        line = self.process.stdout.readline()
        assert line.startswith("mnemed ready "), line
        self.words = dict(word.split("=", 1) for word in line.split()[2:])

    def mneme(self, *arguments, code=0):
        return run(ARGS.mneme, "--address", self.words["listen"], *arguments, code=code)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(SECONDS)
        self.process.stdout.close()
        assert code == 0, code


class DaemonTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="mneme-daemon-")
        cls.root = pathlib.Path(cls.folder.name)
        for name in ("tiny", "other"):
            run(ARGS.mkmodel, "--preset", "ttt-linear-tiny", "--seed", len(name),
                "--out", cls.root / "models" / name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def start(self, *flags):
        daemon = Daemon(*flags)
        self.addCleanup(daemon.stop)
        return daemon

    def tiny(self):
        return f"tiny={self.root}/models/tiny"

    def quiet(self):
        return ("--metrics-listen", "none", "--admin-listen", "none")

    def refusal(self, *flags):
        """What a daemon says that does not start."""
        return run(ARGS.mnemed, "--ephemeral", *self.quiet(), "--model", self.tiny(),
                   *flags, code=1).stderr

    def test_the_example_is_checked_and_printed_as_toml(self):
        printed = run(ARGS.mnemed, "--config", ARGS.example, "--check-config").stdout
        settings = tomllib.loads(printed)
        example = tomllib.loads(pathlib.Path(ARGS.example).read_text())
        self.assertEqual(settings.pop("session_memory"), 1 << 30)
        example.pop("session_memory")
        self.assertEqual(settings, example)
        # Every setting is in the example or commented out there.
        flags = run(ARGS.mnemed, "--help").stdout
        for key in ("listen", "metrics_listen", "admin_listen", "session_memory", "threads",
                    "ephemeral", "drain_timeout", "model_root", "models", "data_dir",
                    "store_size", "session_store_size", "snapshot_interval", "snapshots_kept",
                    "salvage"):
            self.assertIn(key, pathlib.Path(ARGS.example).read_text())
            self.assertIn("--" + key.rstrip("s" if key == "models" else "").replace("_", "-"),
                          flags)
        again = self.root / "again.toml"
        again.write_text(printed)
        self.assertEqual(
            run(ARGS.mnemed, "--config", again, "--check-config").stdout, printed)

    def test_all_mistakes_are_told_with_their_places(self):
        file = self.root / "wrong.toml"
        file.write_text('lisen = "x"\nthreads = -1\n')
        wrong = run(ARGS.mnemed, "--config", file, "--check-config",
                    "--drain-timeout", "-1", code=2).stderr
        self.assertIn(f"{file}:1:1: lisen: there is no such setting; the nearest is listen",
                      wrong)
        self.assertIn(f"{file}:2:1: threads: found -1", wrong)
        self.assertIn("--drain-timeout: found -1", wrong)

    def test_two_run_beside_each_other(self):
        one = self.start("--listen", f"unix:{self.root}/one", *self.quiet(),
                         "--model", self.tiny())
        two = self.start("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
                         "--admin-listen", "127.0.0.1:0", "--model", self.tiny())
        one.mneme("sessions", "create", "mine")
        self.assertIn("mine", one.mneme("sessions", "list").stdout)
        self.assertNotIn("mine", two.mneme("sessions", "list").stdout)

        said = self.refusal("--listen", f"unix:{self.root}/one")
        self.assertIn(f"unix:{self.root}/one: another program listens there", said)
        said = self.refusal("--listen", two.words["listen"])
        self.assertIn(two.words["listen"] + ": Address already in use", said)
        one.mneme("sessions", "show", "mine")  # it was not disturbed

    def test_sessions_outlive_their_daemon(self):
        kept = ("--listen", "127.0.0.1:0", *self.quiet(), "--model", self.tiny(),
                "--no-ephemeral", "--data-dir", self.root / "kept" / "sessions")
        first = Daemon(*kept)
        first.mneme("sessions", "create", "s")
        text = self.root / "text"
        text.write_text("what was acknowledged stays")
        first.mneme("append", "s", text)
        before = json.loads(first.mneme("sessions", "show", "s", "--json").stdout)
        self.assertEqual(before["durability"], "FSYNC")
        self.assertEqual(int(before["durableOffset"]), 27)
        said = run(ARGS.mnemed, *kept, code=1).stderr
        self.assertIn("open in another process", said)
        first.process.kill()
        first.process.wait(SECONDS)
        first.process.stdout.close()

        second = self.start(*kept)
        listed = json.loads(second.mneme("sessions", "list", "--json").stdout)
        self.assertEqual(listed["sessions"][0]["stateTier"], "COLD")
        after = json.loads(second.mneme("sessions", "show", "s", "--json").stdout)
        for field in ("uid", "epoch", "nextOffset", "stateDigest", "historyDigest"):
            self.assertEqual(after[field], before[field], field)
        second.mneme("sessions", "verify")
        second.mneme("append", "s", text)

    def test_what_is_no_socket_is_left_alone(self):
        file = self.root / "data"
        file.write_text("precious")
        self.assertIn("there is a file that is no socket",
                      self.refusal("--listen", f"unix:{file}"))
        self.assertEqual(file.read_text(), "precious")

    @unittest.skipIf(grpc is None, "Python's grpc module is not installed")
    def test_clients_and_operators_are_served_apart(self):
        daemon = self.start("--listen", "127.0.0.1:0", "--metrics-listen", "none",
                            "--admin-listen", "127.0.0.1:0", "--model", self.tiny())

        def code(word, method):
            with grpc.insecure_channel(daemon.words[word]) as channel:
                try:
                    channel.unary_unary(method)(b"", timeout=SECONDS)
                except grpc.RpcError as error:
                    return error.code()
            return grpc.StatusCode.OK

        ok, unknown = grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED
        for method, clients, operators in (
                ("/mneme.v1.Sessions/ListSessions", ok, unknown),
                ("/mneme.v1.Operations/ListOperations", ok, ok),
                ("/mneme.v1.Admin/GetNode", unknown, ok),
                ("/grpc.channelz.v1.Channelz/GetServers", unknown, ok),
                ("/grpc.health.v1.Health/Check", ok, ok)):
            self.assertEqual(code("listen", method), clients, method)
            self.assertEqual(code("admin", method), operators, method)

    def test_models_come_and_go(self):
        daemon = self.start("--listen", "127.0.0.1:0", *self.quiet(), "--model", self.tiny(),
                            "--model-root", self.root / "models")
        listed = json.loads(daemon.mneme("models", "list", "--json").stdout)
        self.assertEqual([(m["name"], m["state"]) for m in listed["models"]],
                         [("models/other", "UNLOADED"), ("models/tiny", "LOADED")])
        self.assertIn("models/other", daemon.mneme("models", "load", "other").stdout)
        daemon.mneme("sessions", "create", "s", "--model", "other")
        refused = daemon.mneme("models", "unload", "other", code=1).stderr
        self.assertIn("MODEL_IN_USE", refused)
        daemon.mneme("models", "unload", "other", "--force")
        self.assertNotIn("sessions/s", daemon.mneme("sessions", "list").stdout)
        self.assertIn("MODEL_NOT_FOUND",
                      daemon.mneme("models", "load", "stranger", code=1).stderr)
        os.remove(self.root / "models" / "other" / "model.safetensors")
        self.assertIn("model.safetensors",
                      daemon.mneme("models", "load", "other", code=1).stderr)


def main():
    global ARGS
    parser = argparse.ArgumentParser()
    for name in ("mnemed", "mneme", "mkmodel", "example"):
        parser.add_argument(f"--{name}", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)


if __name__ == "__main__":
    main()
