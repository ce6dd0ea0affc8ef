#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Promise 1 through the real daemon, with every mixer: whatever is done to it,
its resident memory stays below the sum of the terms that it publishes.

    bound_test.py --mnemed PATH --mkmodel PATH --proto DIR [--long]

Four times the sessions that --session-memory has room for are appended to as
fast as the transport takes it, with and without reading the answers; generated
from and scored by clients that do not read; forked, exported, and deleted.
Resident memory is sampled throughout, and the terms come from /metrics. Exits
77, which ctest counts as skipped, where Python's gRPC is missing.
"""

import argparse
import collections
import contextlib
import importlib
import pathlib
import random
import re
import sys
import tempfile
import threading
import time
import urllib.request

import daemon as daemons
import python_client_test

try:
    import grpc
except ImportError:
    print("skipped: Python's grpc module is not installed")
    sys.exit(77)

PRESETS = ("ttt-linear-tiny", "ttt-mlp-tiny", "infini-tiny", "transformer-xl-tiny",
           "window-tiny", "delta-tiny", "hybrid-tiny")
HOT_ROOM = 24  # sessions, beside what the streams take
WRITERS, READERS, SCORERS, EDITORS = 8, 6, 4, 2
EXPORT_BYTES = 6 << 20  # more than the export of a tiny model's session takes
SECONDS = 60  # To create a session, and to read the metrics.
PATIENCE = 2  # Of the clients that are the load.
SEGMENT = b"x" * (32 << 10)
MIB = 1 << 20
# What a client may be told by a server that is short of memory, and that has
# others take sessions over and delete them.
REFUSALS = ("RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED", "NOT_FOUND", "UNAVAILABLE",
            "FAILED_PRECONDITION", "DEADLINE_EXCEEDED")


class Metrics:
    """What /metrics says: values by name, of several labels their sum."""

    def __init__(self, daemon):
        url = f"http://{daemon.metrics_address}/metrics"
        with urllib.request.urlopen(url, timeout=SECONDS) as page:
            self.lines = page.read().decode()

    def labelled(self, name):
        pattern = re.compile(rf"^{name}(?:\{{(.*)\}})? (\S+)$", re.M)
        for labels, value in pattern.findall(self.lines):
            yield dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)

    def sum(self, name, **wanted):
        found = [value for labels, value in self.labelled(name)
                 if all(labels.get(key) == value for key, value in wanted.items())]
        assert found, f"/metrics has no {name} {wanted}"
        return sum(found)

    def fixed(self):
        """The terms that do not depend on sessions and streams."""
        return (sum(self.sum("mneme_model_bytes", term=term) for term in ("weights", "scratch"))
                + max(value for labels, value in self.labelled("mneme_model_bytes")
                      if labels["term"] == "transfer")
                + self.sum("mneme_constant_bytes"))

    def streams(self):
        return sum(self.sum("mneme_rpc_in_flight", method=f"mneme.v1.{method}")
                   for method in ("Memory/Append", "Memory/Generate", "Memory/Score",
                                  "Sessions/ExportSession"))

    def bound(self):
        """The sum for what is in memory at this moment."""
        terms = {labels["model"] + labels["term"]: value
                 for labels, value in self.labelled("mneme_model_bytes")}
        hot = sum(value * (terms[labels["model"] + "state"] + terms[labels["model"] + "index"])
                  for labels, value in self.labelled("mneme_sessions")
                  if labels["state"] == "hot")
        stream = max(value for key, value in terms.items() if key.endswith("stream"))
        return self.fixed() + hot + self.sum("mneme_index_bytes") + self.streams() * stream


class Sampler:
    """Resident memory, again and again, beside the bound."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.samples = []  # time, bytes
        self.closest = None  # resident, bound
        self.most_hot = 0
        self.over = threading.Event()
        self.failure = None
        self.threads = [threading.Thread(target=self.guarded, args=(work,))
                        for work in (self.sample, self.compare)]
        for thread in self.threads:
            thread.start()

    def guarded(self, work):
        try:
            work()
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def sample(self):
        while not self.over.wait(0.01):
            self.samples.append((time.monotonic(), self.daemon.resident_bytes()))

    def compare(self):
        while not self.over.wait(0.1):
            before = self.daemon.resident_bytes()
            metrics = Metrics(self.daemon)
            resident = min(before, self.daemon.resident_bytes())
            bound = metrics.bound()
            if self.closest is None or resident / bound > self.closest[0] / self.closest[1]:
                self.closest = (resident, bound)
            self.most_hot = max(self.most_hot, metrics.sum("mneme_sessions", state="hot"))
            used = metrics.sum("mneme_state_bytes", tier="ram")
            budget = metrics.sum("mneme_state_budget_bytes", tier="ram")
            assert used <= budget, f"{used} bytes of session memory of {budget}"

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        if self.failure is not None:
            raise self.failure


class Load:
    """Clients that want all they can get."""

    def __init__(self, daemon, models, sessions, seed):
        self.daemon = daemon
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.done = collections.Counter()
        self.sent = 0
        self.failure = None
        self.seed = seed
        self.calls = set()
        self.memory_pb = importlib.import_module("mneme.v1.memory_pb2")
        self.sessions_pb = importlib.import_module("mneme.v1.sessions_pb2")
        self.channels = []
        stub = self.stub("Sessions")
        self.names = [
            stub.CreateSession(self.sessions_pb.CreateSessionRequest(
                session_id=f"s{i}", session={"model": f"models/{models[i % len(models)]}"}),
                timeout=SECONDS).name
            for i in range(sessions)]

    def stub(self, service):
        channel = grpc.insecure_channel(
            self.daemon.address, options=[("grpc.use_local_subchannel_pool", 1)])
        with self.lock:
            self.channels.append(channel)
        module = importlib.import_module(f"mneme.v1.{service.lower()}_pb2_grpc")
        return getattr(module, service + "Stub")(channel)

    def count(self, what, sent=0):
        with self.lock:
            self.done[what] += 1
            self.sent += sent

    @contextlib.contextmanager
    def cancelled(self, call):
        """`call` ends with the block, or with the load."""
        with self.lock:
            self.calls.add(call)
        if self.over.is_set():
            call.cancel()
        try:
            yield call
        finally:
            with self.lock:
                self.calls.remove(call)
            call.cancel()

    def append(self, stub, numbers, name):
        """Sends for a while; every other time without reading a word."""
        pb = self.memory_pb
        opened = threading.Event()
        offset = [None]
        ends = time.monotonic() + numbers.uniform(0.1, 0.6)

        def requests():
            yield pb.AppendRequest(open=pb.AppendRequest.Open(session=name, takeover=True))
            opened.wait(PATIENCE)
            while offset[0] is not None and time.monotonic() < ends and not self.over.is_set():
                segment = pb.AppendRequest.Segment(offset=offset[0], text=SEGMENT)
                offset[0] += len(SEGMENT)
                yield pb.AppendRequest(segment=segment)
                self.count("segments", len(SEGMENT))

        with self.cancelled(stub.Append(requests(), timeout=PATIENCE)) as call:
            try:
                offset[0] = next(call).opened.next_offset
                self.count("appends")
                opened.set()
                if numbers.random() < 0.5:
                    for _ in call:
                        pass
                else:
                    self.over.wait(max(0, ends - time.monotonic()))
            finally:
                opened.set()

    def generate(self, stub, numbers, name):
        pb = self.memory_pb
        request = pb.GenerateRequest(
            session=name, text=b"Once upon a time", max_tokens=4096,
            ignore_eos=True, logprobs=True, top_logprobs=10)
        with self.cancelled(stub.Generate(request, timeout=PATIENCE)) as call:
            next(call)
            self.count("generations")
            self.over.wait(numbers.uniform(0, 1))
            for _ in range(20):
                next(call, None)

    def score(self, stub, numbers, name):
        pb = self.memory_pb
        ends = time.monotonic() + numbers.uniform(0.2, 1)

        def requests():
            yield pb.ScoreRequest(open=pb.ScoreRequest.Open(
                session=name, detail=pb.ScoreRequest.TOKENS))
            while time.monotonic() < ends and not self.over.is_set():
                yield pb.ScoreRequest(text=SEGMENT)
                self.count("scored", len(SEGMENT))

        with self.cancelled(stub.Score(requests(), timeout=PATIENCE)) as call:
            self.over.wait(max(0, ends - time.monotonic()))
            next(call)
            self.count("scores")

    def edit(self, stub, numbers, name):
        pb = self.sessions_pb
        fork = stub.ForkSession(pb.ForkSessionRequest(source=name), timeout=PATIENCE).name
        try:
            self.count("forks")
            with self.cancelled(stub.ExportSession(
                    pb.ExportSessionRequest(name=fork), timeout=PATIENCE)) as export:
                next(export)
                self.count("exports")
                self.over.wait(numbers.uniform(0, 0.3))
        finally:
            stub.DeleteSession(pb.DeleteSessionRequest(name=fork), timeout=SECONDS)

    def work(self, service, act, seed):
        numbers = random.Random(seed)
        try:
            stub = self.stub(service)
            while not self.over.is_set():
                try:
                    act(stub, numbers, numbers.choice(self.names))
                except StopIteration:
                    self.count("ended early")
                except grpc.RpcError as error:
                    code = error.code().name
                    self.count(code)
                    if code not in REFUSALS:
                        raise
                    self.over.wait(0.01)
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error
            self.over.set()

    def run(self, seconds):
        kinds = ([("Memory", self.append)] * WRITERS + [("Memory", self.generate)] * READERS
                 + [("Memory", self.score)] * SCORERS + [("Sessions", self.edit)] * EDITORS)
        threads = [threading.Thread(target=self.work, args=(*kind, self.seed + i))
                   for i, kind in enumerate(kinds)]
        for thread in threads:
            thread.start()
        self.over.wait(seconds)
        self.over.set()
        with self.lock:
            calls = list(self.calls)
        for call in calls:
            call.cancel()
        for thread in threads:
            thread.join()
        for channel in self.channels:
            channel.close()
        if self.failure is not None:
            raise self.failure


def flags_of(models):
    return [flag for name, directory in models[1:]
            for flag in ("--model", f"{name}={directory}")]


def sizes(mnemed, models, folder):
    """Of session memory, in bytes, and how many sessions are too many for it."""
    with daemons.Daemon(mnemed, models[0][1], folder, *flags_of(models)) as daemon:
        metrics = Metrics(daemon)
    hot = sum(metrics.sum("mneme_model_bytes", term=term)
              for term in ("state", "index")) / len(models)
    stream = max(value for labels, value in metrics.labelled("mneme_model_bytes")
                 if labels["term"] == "stream")
    streams = WRITERS + READERS + SCORERS + EDITORS
    memory = int(HOT_ROOM * hot + streams * stream + EDITORS * EXPORT_BYTES)
    return memory, 4 * int(memory / hot)


def check(mnemed, models, memory, sessions, folder, seconds, durable):
    folder.mkdir()
    names = ["tiny", *(name for name, _ in models[1:])]
    # What it was given to compute when the load ended may take it long.
    flags = [*flags_of(models), "--session-memory", str(memory), "--drain-timeout", "0"]
    if durable:
        flags += ["--no-ephemeral", "--data-dir", str(folder / "data")]
    with daemons.Daemon(mnemed, models[0][1], folder, *flags) as daemon:
        load = Load(daemon, names, sessions, seed=1)
        idle = daemon.resident_bytes()
        begin = time.monotonic()
        sampler = Sampler(daemon)
        try:
            load.run(seconds)
        except BaseException:
            daemon.show_log()
            raise
        finally:
            sampler.stop()
        metrics = Metrics(daemon)
        bound = metrics.fixed() + memory
        most = max(resident for _, resident in sampler.samples)
        early = max(resident for at, resident in sampler.samples if at < begin + seconds / 2)
        evicted = metrics.sum("mneme_session_events_total", event="evict")
        resident, at_once = sampler.closest
        print(f"{'+'.join(name for name, _ in models)}, {'durable' if durable else 'ephemeral'}: "
              f"{sessions} sessions, session memory {memory / MIB:.1f} MiB, at most "
              f"{sampler.most_hot:.0f} hot, {evicted:.0f} evictions; resident {idle / MIB:.1f} MiB idle, "
              f"{early / MIB:.1f} in the first half, {most / MIB:.1f} at most, bound {bound / MIB:.1f}; "
              f"closest {resident / MIB:.1f} of {at_once / MIB:.1f}; sent {load.sent / MIB:.1f} MiB; "
              f"{dict(load.done)}; {len(sampler.samples)} samples", flush=True)
        for what in ("appends", "generations", "scores", "forks", "exports"):
            assert load.done[what] > 0, f"no {what}"
        assert evicted > HOT_ROOM, f"{evicted} evictions"
        assert sampler.most_hot < sessions, "all sessions were in memory"
        assert most <= bound, f"resident memory was {most} bytes, the terms are {bound}"
        assert resident <= at_once, f"resident memory was {resident} bytes, the terms were {at_once}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnemed", required=True)
    parser.add_argument("--mkmodel", required=True)
    parser.add_argument("--proto", required=True, type=pathlib.Path)
    parser.add_argument("--long", action="store_true", help="a daemon for each mixer and store")
    parser.add_argument("--seconds", type=float, help="for each daemon; default 3, or 20")
    parser.add_argument("--preset", action="append", help="only these")
    args = parser.parse_args()
    seconds = args.seconds or (20 if args.long else 3)
    with tempfile.TemporaryDirectory(prefix="mneme-bound-") as name:
        folder = pathlib.Path(name)
        stubs = folder / "stubs"
        stubs.mkdir()
        python_client_test.generate_stubs(args.proto.resolve(), stubs)
        models = [(preset, daemons.make_model(args.mkmodel, folder, preset))
                  for preset in args.preset or PRESETS]
        served = [[model] for model in models] if args.long else [models]
        for i, part in enumerate(served):
            # Preset and directory of each model that one daemon serves.
            memory, sessions = sizes(args.mnemed, part, folder)
            for durable in (True, False):
                check(args.mnemed, part, memory, sessions, folder / f"{i}-{durable}",
                      seconds, durable)
    return 0


if __name__ == "__main__":
    sys.exit(main())
