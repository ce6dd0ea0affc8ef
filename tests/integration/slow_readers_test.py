#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that never read, and clients that send all they can, do not grow the
daemon beyond the terms it publishes.

    slow_readers_test.py --mnemed PATH --mkmodel PATH --proto DIR

The terms: a session takes index_bytes and, while it is hot, state_bytes; an
open stream takes stream_bytes. On top of that a stream has what gRPC holds of
it in both directions. Exits 77, which ctest counts as skipped, where Python's
gRPC is missing.
"""

import argparse
import importlib
import pathlib
import queue
import sys
import tempfile
import threading
import time

import daemon as daemons
import python_client_test

try:
    import grpc
except ImportError:
    print("skipped: Python's grpc module is not installed")
    sys.exit(77)

IDLE_STREAMS = 100
SECONDS = 60
KIB = 1 << 10
MIB = 1 << 20
# What gRPC may hold of a stream: one message that waits to be written, one
# that was read, and the flow-control window of HTTP/2 (64 KiB at first).
TRANSPORT_BYTES = 512 * KIB
# Threads, pages of the allocator, and code that ran for the first time.
FIXED_BYTES = 16 * MIB
FLOOD_BYTES = 64 * MIB  # far beyond all of the terms


class Flood:
    """Requests as fast as the transport takes them; counts what it took."""

    def __init__(self, first, make):
        self.first, self.make = first, make
        self.offered = 0
        self.over = threading.Event()

    def __iter__(self):
        yield self.first
        while not self.over.is_set() and self.offered < FLOOD_BYTES:
            request, size = self.make(self.offered)
            self.offered += size
            yield request


class Idle:
    """An opening, then nothing until it is over."""

    def __init__(self, first):
        self.first = first
        self.over = queue.SimpleQueue()

    def __iter__(self):
        yield self.first
        self.over.get()


class Clients:
    """Every client has a connection of its own, as strangers would."""

    def __init__(self, address):
        self.address = address
        self.memory_pb = importlib.import_module("mneme.v1.memory_pb2")
        self.sessions_pb = importlib.import_module("mneme.v1.sessions_pb2")
        self.models_pb = importlib.import_module("mneme.v1.models_pb2")
        self.channels = []

    def stub(self, service):
        channel = grpc.insecure_channel(
            self.address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.channels.append(channel)
        module = importlib.import_module(f"mneme.v1.{service.lower()}_pb2_grpc")
        return getattr(module, service + "Stub")(channel)

    def create(self, name):
        return self.stub("Sessions").CreateSession(
            self.sessions_pb.CreateSessionRequest(session_id=name), timeout=SECONDS).name

    def model(self):
        return self.stub("Models").GetModel(
            self.models_pb.GetModelRequest(name="models/tiny"), timeout=SECONDS)

    def open(self, session):
        pb = self.memory_pb
        return pb.AppendRequest(open=pb.AppendRequest.Open(session=session))

    def append_something(self, session):
        pb = self.memory_pb
        requests = [self.open(session), pb.AppendRequest(
            segment=pb.AppendRequest.Segment(offset=0, text=b"Once upon a time"))]
        list(self.stub("Memory").Append(iter(requests), timeout=SECONDS))

    def flooding_append(self, session):
        pb = self.memory_pb
        text = b"x" * (32 * KIB)
        flood = Flood(self.open(session), lambda offset: (
            pb.AppendRequest(segment=pb.AppendRequest.Segment(offset=offset, text=text)),
            len(text)))
        return flood, self.stub("Memory").Append(iter(flood))

    def flooding_score(self, session):
        pb = self.memory_pb
        text = b"y" * (32 * KIB)
        # Every token is told, and nobody listens.
        first = pb.ScoreRequest(open=pb.ScoreRequest.Open(
            session=session, detail=pb.ScoreRequest.TOKENS))
        flood = Flood(first, lambda offset: (pb.ScoreRequest(text=text), len(text)))
        return flood, self.stub("Memory").Score(iter(flood))

    def unread_generation(self, session):
        pb = self.memory_pb
        return self.stub("Memory").Generate(pb.GenerateRequest(
            session=session, max_tokens=4096, ignore_eos=True, logprobs=False))


def settled(daemon, floods):
    """Resident memory once the floods stand still."""
    deadline = time.monotonic() + SECONDS
    most, offered, quiet = 0, None, 0
    while quiet < 10 and time.monotonic() < deadline:
        time.sleep(0.2)
        most = max(most, daemon.resident_bytes())
        now = [flood.offered for flood in floods]
        quiet = quiet + 1 if now == offered else 0
        offered = now
    return most, quiet >= 10


def run(daemon):
    clients = Clients(daemon.address)
    model = clients.model()
    names = [clients.create(f"idle-{i}") for i in range(IDLE_STREAMS)]
    readers = [clients.create(f"reader-{i}") for i in range(4)]
    for name in readers:
        clients.append_something(name)
    writers = [clients.create(f"writer-{i}") for i in range(2)]
    scored = [clients.create(f"scored-{i}") for i in range(2)]
    for name in scored:
        clients.append_something(name)
    before = daemon.resident_bytes()

    idles = [Idle(clients.open(name)) for name in names]
    streams = [clients.stub("Memory").Append(iter(idle)) for idle in idles]
    for stream in streams:
        assert next(stream).WhichOneof("message") == "opened"
    with_idle = daemon.resident_bytes()

    floods = []
    streams += [clients.unread_generation(name) for name in readers]
    for name in writers:
        flood, stream = clients.flooding_append(name)
        floods.append(flood)
        streams.append(stream)
    for name in scored:
        flood, stream = clients.flooding_score(name)
        floods.append(flood)
        streams.append(stream)
    most, still = settled(daemon, floods[2:])

    # The terms of what was opened since the last measurement.
    idle_terms = IDLE_STREAMS * (model.stream_bytes + model.state_bytes)
    active = len(streams) - IDLE_STREAMS
    terms = active * (model.stream_bytes + model.state_bytes + TRANSPORT_BYTES) + FIXED_BYTES
    grown = most - with_idle
    taken = [flood.offered for flood in floods]
    print(f"resident {before} before, {with_idle} with {IDLE_STREAMS} idle streams, at most {most} "
          f"with {active} more that do not read: grew by {grown}, terms {terms} "
          f"(stream {model.stream_bytes}, state {model.state_bytes}); offered {taken}")
    for flood in floods:
        flood.over.set()
    for idle in idles:
        idle.over.put(None)
    for stream in streams:
        stream.cancel()
    for channel in clients.channels:
        channel.close()
    assert with_idle - before < idle_terms, \
        f"idle streams took {with_idle - before} bytes, want below {idle_terms}"
    assert grown < terms, f"grew by {grown} bytes, want below {terms}"
    assert still, "a score whose results nobody reads was taken without end"
    assert max(taken[2:]) < FLOOD_BYTES, f"unread scores took {taken[2:]} bytes"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnemed", required=True)
    parser.add_argument("--mkmodel", required=True)
    parser.add_argument("--proto", required=True, type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mneme-slow-readers-") as folder:
        stubs = pathlib.Path(folder) / "stubs"
        stubs.mkdir()
        python_client_test.generate_stubs(args.proto.resolve(), stubs)
        model = daemons.make_model(args.mkmodel, folder)
        with daemons.Daemon(args.mnemed, model, folder) as daemon:
            try:
                run(daemon)
            except BaseException:
                daemon.show_log()
                raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
