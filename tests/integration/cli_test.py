#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The `mneme` command against a real daemon: what scripts and people see.

    cli_test.py --mnemed PATH --mneme PATH --mkmodel PATH
"""

import argparse
import hashlib
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import daemon as daemons

SECONDS = 60  # No command takes nearly as long; a hang fails instead.


class CliTest(unittest.TestCase):
    made = 0

    # What the tests say.

    def run_mneme(self, *words, stdin=b"", address=None):
        environment = daemons.environment(self.daemon)
        if address is not None:
            environment["MNEME_ADDRESS"] = address
        return subprocess.run([self.mneme, *words], input=stdin, capture_output=True,
                              timeout=SECONDS, check=False, env=environment)

    def mneme_ok(self, *words, stdin=b""):
        done = self.run_mneme(*words, stdin=stdin)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stdout

    def refused(self, code, *words, stdin=b"", address=None):
        """Runs a command that has to fail; returns what it said."""
        done = self.run_mneme(*words, stdin=stdin, address=address)
        self.assertEqual(done.returncode, code, (done.stdout, done.stderr))
        message = (done.stderr).decode()
        self.assertTrue(message, "it failed without a word")
        return message

    def create(self, *flags):
        CliTest.made += 1
        name = f"cli-{self.made}"
        self.mneme_ok("sessions", "create", name, "--model", "tiny", *flags)
        return name

    def show(self, name):
        return json.loads(self.mneme_ok("sessions", "show", name, "--json"))

    def file(self, content):
        path = self.folder / f"file-{time.monotonic_ns()}"
        path.write_bytes(content)
        return str(path)

    def assert_history(self, name, history):
        shown = self.show(name)
        self.assertEqual(int(shown["nextOffset"]), len(history))
        self.assertEqual(shown["historyDigest"], hashlib.sha256(history).hexdigest())

    # Append.

    def test_files_follow_each_other(self):
        name = self.create()
        first, second = self.file(b"one "), self.file(b"two")
        self.mneme_ok("append", name, first, second, "--message-bytes", "3")
        self.assert_history(name, b"one two")

    def test_a_pipe_is_a_file(self):
        name = self.create()
        self.mneme_ok("append", name, stdin=b"from a pipe")
        self.mneme_ok("append", name, "-", self.file(b"!"), stdin=b", again")
        self.assert_history(name, b"from a pipe, again!")

    def test_token_files_keep_their_ids_apart(self):
        name = self.create("--unit", "tokens")
        self.mneme_ok("append", name, "--tokens", self.file(b"1 2"), self.file(b"3"))
        self.assert_history_of_tokens(name, [1, 2, 3])

    def assert_history_of_tokens(self, name, ids):
        shown = self.show(name)
        digest = hashlib.sha256(b"".join(i.to_bytes(4, "little") for i in ids)).hexdigest()
        self.assertEqual(shown["historyDigest"], digest)
        self.assertEqual(int(shown["nextOffset"]), len(ids))

    def test_resume_goes_on_where_the_session_is(self):
        text = bytes(range(32, 127)) * 2000
        name = self.create()
        whole = self.file(text)
        self.mneme_ok("append", name, self.file(text[:100_001]))
        said = self.mneme_ok("append", name, "--resume", whole)
        self.assertIn(f"appended {len(text) - 100_001} bytes".encode(), said)
        self.assert_history(name, text)
        self.assertIn(b"appended 0 bytes", self.mneme_ok("append", name, "--resume", whole))

    def test_resume_refuses_another_file(self):
        name = self.create()
        self.mneme_ok("append", name, stdin=b"the beginning")
        other = self.file(b"The beginning and the end")
        self.assertIn("digest", self.refused(1, "append", name, "--resume", other))
        shorter = self.file(b"the")
        self.assertIn("holds 13", self.refused(1, "append", name, "--resume", shorter))
        self.assert_history(name, b"the beginning")

    def test_an_append_waits_for_a_running_generation(self):
        name = self.create()
        self.mneme_ok("append", name, stdin=b"Once")
        # Letters alone: an answer that ends inside a character leaves it out.
        letters = ["--logit-bias", "97=100", "--logit-bias", "98=100"]
        with subprocess.Popen(
                [self.mneme, "generate", name, "--max-tokens", "2000", *letters],
                stdout=subprocess.PIPE, env=daemons.environment(self.daemon)) as generation:
            answer = generation.stdout.read(1)  # It runs.
            self.mneme_ok("append", name, stdin=b"upon a time")
            answer += generation.stdout.read()
        self.assertEqual(generation.returncode, 0)
        self.assert_history(name, b"Once" + answer + b"upon a time")

    def test_an_append_waits_for_a_score_that_commits(self):
        name = self.create()
        self.mneme_ok("append", name, stdin=b"Once")
        text = b"so it went on and on; " * 500
        with subprocess.Popen(
                [self.mneme, "score", name, "--commit", "--message-bytes", "100"],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                env=daemons.environment(self.daemon)) as score:
            score.stdin.write(text[:1000])
            score.stdin.flush()
            while self.show(name)["busy"] == "IDLE":
                pass
            with subprocess.Popen(
                    [self.mneme, "append", name], stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    env=daemons.environment(self.daemon)) as append:
                append.stdin.write(b"the end")
                append.stdin.close()
                score.stdin.write(text[1000:])
                score.stdin.close()
        self.assertEqual((score.returncode, append.returncode), (0, 0))
        self.assert_history(name, b"Once" + text + b"the end")

    # Sessions, health, numbers, exit codes.

    def test_labels_and_time_to_live_change_one_by_one(self):
        name = self.create("--label", "user=anna", "--label", "team=red")
        self.mneme_ok("sessions", "update", name, "--label", "user=ben", "--remove-label",
                      "team", "--label", "city=ulm", "--ttl", "3600")
        shown = self.show(name)
        self.assertEqual(shown["labels"], {"user": "ben", "city": "ulm"})
        self.assertIn("expireTime", shown)
        self.mneme_ok("sessions", "update", name, "--ttl", "0")
        shown = self.show(name)
        self.assertEqual(shown["labels"], {"user": "ben", "city": "ulm"})
        self.assertNotIn("expireTime", shown)
        self.refused(2, "sessions", "update", name)

    def test_reset_empties_a_session(self):
        name = self.create("--label", "user=anna")
        self.mneme_ok("append", name, stdin=b"forget me")
        before = self.show(name)
        after = json.loads(self.mneme_ok("sessions", "reset", name, "--json"))
        self.assertEqual(after["uid"], before["uid"])
        self.assertGreater(int(after["epoch"]), int(before["epoch"]))
        self.assert_history(name, b"")

    # Sessions as stored things.

    def json_of(self, *words):
        return json.loads(self.mneme_ok("sessions", *words, "--json"))

    def test_a_fork_goes_its_own_way(self):
        name = self.create()
        self.mneme_ok("append", name, stdin=b"the same")
        fork = name + "-fork"
        made = self.json_of("fork", name, fork, "--label", "user=anna", "--ttl", "1000")
        self.assertEqual(made["labels"], {"user": "anna"})
        self.mneme_ok("append", fork, stdin=b" and more")
        self.assert_history(name, b"the same")
        self.assert_history(fork, b"the same and more")
        self.assertIn("SESSION_EXISTS", self.refused(1, "sessions", "fork", name, fork))

    def test_a_session_goes_back_to_what_was_kept(self):
        name = self.create("--pinned")
        self.assertTrue(self.show(name)["pinned"])
        self.mneme_ok("append", name, stdin=b"kept")
        kept = self.json_of("snapshots", "create", name, "noon")
        self.assertEqual(kept["name"], f"sessions/{name}/snapshots/noon")
        self.assertEqual(kept["offset"], "4")
        self.mneme_ok("append", name, stdin=b", and then some")
        begun = self.create("--from-snapshot", kept["name"])
        self.assert_history(begun, b"kept")
        self.assert_history(self.json_of("fork", name, "--snapshot", "noon")["name"], b"kept")
        self.json_of("rollback", name, "--to-offset", "8")
        self.assert_history(name, b"kept, an")
        self.json_of("rollback", name, "--snapshot", "noon")
        self.assert_history(name, b"kept")
        self.assertIn("OFFSET_NOT_KEPT",
                      self.refused(1, "sessions", "rollback", name, "--to-offset", "1000"))
        self.refused(2, "sessions", "rollback", name)
        self.refused(2, "sessions", "rollback", name, "--to-offset", "1", "--snapshot", "noon")

        names = [s["name"] for s in self.json_of("snapshots", "list", name)["snapshots"]]
        self.assertIn(kept["name"], names)
        self.assertIn(b"request", self.mneme_ok("sessions", "snapshots", "list", name))
        self.json_of("snapshots", "delete", name, "noon")
        self.assertIn("SNAPSHOT_NOT_FOUND",
                      self.refused(1, "sessions", "snapshots", "delete", name, "noon"))

    def test_a_session_travels_in_a_file(self):
        name = self.create()
        self.mneme_ok("append", name, stdin=b"far away")
        digest = self.show(name)["stateDigest"]
        file = pathlib.Path(self.file(b"")).with_suffix(".mneme")
        told = self.json_of("export", name, str(file))
        self.assertEqual(int(told["totalBytes"]), file.stat().st_size)
        self.assertEqual(self.mneme_ok("sessions", "export", name, "-"), file.read_bytes())
        twin = name + "-twin"
        self.json_of("import", str(file), twin, "--model", "tiny")
        self.assert_history(twin, b"far away")
        self.assertEqual(self.show(twin)["stateDigest"], digest)
        self.mneme_ok("append", twin, stdin=b"!")
        self.assert_history(twin, b"far away!")

        damaged = bytearray(file.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        self.assertIn("DATA_LOSS",
                      self.refused(1, "sessions", "import", self.file(bytes(damaged))))
        nowhere = str(self.folder / "nowhere" / "file")
        self.refused(1, "sessions", "export", name, nowhere)
        self.refused(1, "sessions", "export", "stranger", str(file))
        self.assertFalse(pathlib.Path(str(file) + ".part").exists())

    def test_a_watch_ends_with_its_session(self):
        name = self.create()
        with subprocess.Popen([self.mneme, "sessions", "watch", name, "--json"],
                              stdout=subprocess.PIPE,
                              env=daemons.environment(self.daemon)) as watch:
            first = json.loads(watch.stdout.readline())
            self.assertEqual(first["type"], "SNAPSHOT_OF_NOW")
            self.assertEqual(first["session"]["name"], f"sessions/{name}")
            self.mneme_ok("sessions", "reset", name)
            self.mneme_ok("sessions", "delete", name)
            events = [json.loads(line)["type"] for line in watch.stdout]
        self.assertEqual(watch.returncode, 0)
        self.assertIn("RESET", events)
        self.assertEqual(events[-1], "DELETED")

    def test_sessions_are_verified(self):
        name = self.create()
        self.mneme_ok("append", name, stdin=b"whole")
        self.assertEqual(self.json_of("verify", name),
                         {"name": f"sessions/{name}", "problem": "", "whole": True})
        self.assertIn(f"whole sessions/{name}\n".encode(), self.mneme_ok("sessions", "verify"))
        self.assertIn("SESSION_NOT_FOUND", self.refused(1, "sessions", "verify", "stranger"))

    def test_a_memory_without_segments_has_none_to_commit(self):
        name = self.create()
        self.assertIn("ttt_linear", self.refused(1, "sessions", "commit-segment", name))

    def test_health_is_an_exit_code(self):
        self.assertEqual(self.mneme_ok("health"), b"SERVING\n")
        self.assertEqual(self.mneme_ok("health", "mneme.v1.Memory"), b"SERVING\n")
        self.assertEqual(json.loads(self.mneme_ok("health", "--json")), {"status": "SERVING"})
        self.refused(1, "health", "no.such.Service")
        self.refused(3, "health", address="unix:" + str(self.folder / "nobody"))

    def test_wrong_numbers_are_refused_in_few_words(self):
        for words in (["append", "x", "--message-bytes", "0"],
                      ["append", "x", "--start-offset", "-1"],
                      ["sessions", "create", "x", "--ttl", "-5"],
                      ["score", "x", "--message-bytes", "1e3"],
                      ["health", "--timeout", "0"],
                      ["health", "--timeout", "nan"],
                      ["bench", "--seconds", "nan"],
                      ["bench", "--rate", "inf"],
                      ["bench", "--prompt-bytes", "99999999999"]):
            message = self.refused(2, *words)
            self.assertLess(len(message), 300, message)
            self.assertIn("wanted", message)

    def test_exit_codes_tell_what_to_do(self):
        self.assertIn("NOT_FOUND", self.refused(1, "sessions", "show", "nobody"))
        self.assertIn('mneme: found "nothing", wanted append,', self.refused(2, "nothing"))
        self.assertIn('sessions: found "get", wanted create,',
                      self.refused(2, "sessions", "get", "x"))
        started = time.monotonic()
        self.refused(3, "append", "x", address="unix:" + str(self.folder / "nobody"))
        self.assertLess(time.monotonic() - started, 30)
        help_text = self.mneme_ok("--help").decode()
        for word in ("0 done", "1 failed", "2 wrong usage", "3 no server", "130 interrupted"):
            self.assertIn(word, help_text)

    # Chat.

    def test_a_piped_chat_answers_each_line_and_nothing_else(self):
        name = self.create()
        flags = ["--max-tokens", "5", "--temperature", "0"]
        said = self.mneme_ok("chat", name, *flags, "--json", stdin=b"Hello\n\nHow are you?\n")
        messages = [json.loads(line) for line in said.splitlines()]
        finished = [m["finished"] for m in messages if "finished" in m]
        self.assertEqual(len(finished), 2)
        self.assertEqual(finished[1]["nextOffset"], self.show(name)["nextOffset"])

        plain = self.create()
        said = self.mneme_ok("chat", plain, *flags, stdin=b"Hello\n\nHow are you?")
        self.assertNotIn(b"> ", said)
        self.assertEqual(self.show(plain)["historyDigest"], self.show(name)["historyDigest"])

    def test_a_chat_in_turns_has_the_template_between_them(self):
        name, lines = self.create(), self.create()
        flags = ["--max-tokens", "4", "--temperature", "0", "--ignore-eos"]
        self.mneme_ok("chat", name, *flags, "--turns", stdin=b"Hello\nBye\n")
        self.mneme_ok("chat", lines, *flags, stdin=b"Hello\nBye\n")
        # "user: " and "assistant:" are in the state, and in no offset.
        self.assertGreater(int(self.show(name)["position"]), int(self.show(lines)["position"]) + 20)

    def test_a_chat_makes_its_session_only_when_told(self):
        self.assertIn("SESSION_NOT_FOUND", self.refused(1, "chat", "chat-new", stdin=b"Hi\n"))
        self.mneme_ok("chat", "chat-new", "--create", "--model", "tiny", "--max-tokens", "1",
                      stdin=b"Hi\n")
        self.assertEqual(self.show("chat-new")["model"], "models/tiny")
        self.refused(1, "chat", "chat-new", "--model", "other", stdin=b"Hi\n")

    def test_a_chat_on_a_terminal(self):
        name = self.create()
        child, terminal = pty.fork()
        if child == 0:
            os.environ.update(daemons.environment(self.daemon), TERM="xterm")
            os.execv(self.mneme, ["mneme", "chat", name, "--max-tokens", "100000",
                                  "--ignore-eos", "--seed", "1"])
        said = b""

        def read_until(wanted):
            nonlocal said
            deadline = time.monotonic() + SECONDS
            while not wanted():
                left = deadline - time.monotonic()
                self.assertGreater(left, 0, said[-2000:])
                if select.select([terminal], [], [], left)[0]:
                    said += os.read(terminal, 65536)

        try:
            read_until(lambda: b"> " in said)
            os.write(terminal, b"Helo\x1b[Dl\n")  # Edited: the cursor goes left.
            busy = lambda: self.show(name)["busy"] == "GENERATING"
            deadline = time.monotonic() + SECONDS
            while not busy():
                self.assertLess(time.monotonic(), deadline)
            said = b""
            os.write(terminal, b"\x03")  # Ctrl-C: ends the answer.
            read_until(lambda: said.endswith(b"> ") or b"\n> " in said or b"\r> " in said)
            while busy():
                self.assertLess(time.monotonic(), deadline)
            os.write(terminal, b"thrown away")
            read_until(lambda: b"thrown away" in said)
            said = b""
            os.write(terminal, b"\x03")  # Ctrl-C: empties the line.
            read_until(lambda: said.count(b"> ") > 0 or b"\x1b" in said or b"\x08" in said)
            os.write(terminal, b"\x04")  # Ctrl-D: leaves.
            try:
                read_until(lambda: False)
            except OSError:
                pass  # The terminal is gone with its program.
            _, status = os.waitpid(child, 0)
            child = None
            self.assertEqual(os.waitstatus_to_exitcode(status), 0, said[-2000:])
        finally:
            if child:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            os.close(terminal)

    # Bench.

    def bench_sessions(self):
        listed = json.loads(self.mneme_ok("sessions", "list", "--json", "--filter",
                                          "labels.made-by = mneme-bench"))
        return listed["sessions"]

    def test_bench_measures_and_cleans_up(self):
        said = json.loads(self.mneme_ok(
            "bench", "--sessions", "3", "--requests", "12", "--arrivals", "poisson", "--rate",
            "200", "--prompt-bytes", "20", "--answer-tokens", "8", "--seed", "3", "--json"))
        self.assertEqual(said["answered"], 12)
        self.assertEqual(said["firstTokenMilliseconds"]["count"], 12)
        self.assertEqual(said["errors"], {})
        self.assertGreater(said["generatedTokensPerSecond"], 0)
        for name in ("firstToken", "betweenTokens", "whole"):
            times = said[name + "Milliseconds"]
            ordered = [times[p] for p in ("p50", "p90", "p95", "p99", "max")]
            self.assertEqual(ordered, sorted(ordered))
            # Tokens that arrive together have no time between them, and all may.
            self.assertGreaterEqual(times["max"], 0 if name == "betweenTokens" else 1e-6)
        self.assertEqual(self.bench_sessions(), [])

    def test_an_interrupted_bench_tells_what_it_measured_and_cleans_up(self):
        # At once: most of its sessions are still to be made.
        with subprocess.Popen([self.mneme, "bench", "--seconds", "600", "--sessions", "500", "--json"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              env=daemons.environment(self.daemon)) as bench:
            while not self.bench_sessions():
                self.assertIsNone(bench.poll())
            bench.send_signal(signal.SIGINT)
            said = bench.communicate(timeout=SECONDS)[0]
        self.assertEqual(bench.returncode, 130)
        self.assertIn("answered", json.loads(said))
        self.assertEqual(self.bench_sessions(), [])

    # Completions.

    def complete(self, *words):
        script = self.mneme_ok("completions", "bash").decode()
        quoted = " ".join(f"'{word}'" for word in words)
        program = f"{script}\nCOMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}\n_mneme\n" \
                  'printf "%s\\n" "${COMPREPLY[@]}"\n'
        done = subprocess.run(["bash", "--norc", "-c", program], capture_output=True,
                              check=True, timeout=SECONDS, text=True)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_bash_completes_commands_and_options(self):
        self.assertEqual(self.complete("mneme", "app"), ["append"])
        self.assertEqual(self.complete("mneme", "sessions", "res"), ["reset"])
        self.assertEqual(self.complete("mneme", "--json", "sessions", "upd"), ["update"])
        self.assertEqual(self.complete("mneme", "append", "x", "--res"), ["--resume"])
        self.assertEqual(self.complete("mneme", "sessions", "create", "x", "--addr"),
                         ["--address"])
        self.assertEqual(self.complete("mneme", "append", "some-fi"), [])
        commands = {line.split()[0]
                    for line in self.mneme_ok("--help").decode().split("Subcommands:")[1]
                    .splitlines() if line.startswith("  ")}
        self.assertLessEqual(commands, set(self.complete("mneme", "")))

    def test_other_shells_get_scripts_they_can_read(self):
        for shell, flags in (("zsh", ["-n"]), ("fish", ["--no-execute"])):
            script = self.mneme_ok("completions", shell)
            self.assertIn(b"mneme sessions create", script)
            if shutil.which(shell):
                subprocess.run([shell, *flags, self.file(script)], check=True, timeout=SECONDS)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for program in ("mnemed", "mneme", "mkmodel"):
        parser.add_argument(f"--{program}", required=True)
    arguments, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="mneme-cli-") as folder:
        CliTest.folder = pathlib.Path(folder)
        CliTest.mneme = arguments.mneme
        model = daemons.make_model(arguments.mkmodel, folder)
        with daemons.Daemon(arguments.mnemed, model, folder) as daemon:
            CliTest.daemon = daemon
            program = unittest.main(argv=[sys.argv[0], *rest], exit=False, verbosity=2)
            passed = program.result.wasSuccessful()
            if not passed:
                daemon.show_log()
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
