#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How much of what it was told a served model still knows: plays a file of
sessions against a mnemed and counts the answers that are right to the byte.

    recall.py --mnemed build/release/bin/mnemed --proto proto \
              --model DIR --sessions FILE.json

The model has a vocabulary of tokens that the file names by id:

    {"sessions": [{"tokens": [256, 257, 77, ...],
                   "stretches": [{"name": "1000", "tokens": [...],
                                  "questions": [{"group": "4 facts",
                                                 "tokens": [257, ...],
                                                 "answer": [...]}]}]}]}

A session reads its tokens, then of each stretch the tokens; then it is asked
each question, from the state it had before and without keeping anything of
it. Answers are greedy, up to a token that ends a text. Sessions are read side
by side, as clients would send them. Needs Python's grpc module, protoc and
grpc_python_plugin.

Prints per stretch the right answers per group, how unexpected the stretch was
to the model, and how fast it was read; --answers FILE writes all that was
said.
"""

import argparse
import concurrent.futures
import importlib
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
import daemon as daemons  # noqa: E402

CALL_SECONDS = 600
ANSWER_TOKENS = 70
PIECE_TOKENS = 4096
# The first tokens of a stretch that are scored before they are read.
SCORED_TOKENS = 20000


def generate_stubs(proto, out):
    plugin = shutil.which("grpc_python_plugin")
    assert plugin, "grpc_python_plugin is not installed"
    files = sorted(str(path.relative_to(proto)) for path in proto.rglob("*.proto"))
    subprocess.run(["protoc", f"--proto_path={proto}", f"--python_out={out}",
                    f"--grpc_out={out}", f"--plugin=protoc-gen-grpc={plugin}", *files],
                   check=True, cwd=proto)
    sys.path.insert(0, str(out))


class Server:
    def __init__(self, address):
        load = importlib.import_module
        self.pb = load("mneme.v1.memory_pb2")
        self.sessions_pb = load("mneme.v1.sessions_pb2")
        channel = grpc.insecure_channel(address)
        self.sessions = load("mneme.v1.sessions_pb2_grpc").SessionsStub(channel)
        self.memory = load("mneme.v1.memory_pb2_grpc").MemoryStub(channel)

    def create(self, number):
        pb = self.sessions_pb
        return self.sessions.CreateSession(pb.CreateSessionRequest(
            session_id=f"recall-{number}",
            session=pb.Session(model="models/tiny", unit=pb.Session.TOKENS)),
            timeout=CALL_SECONDS)

    def append(self, name, offset, tokens):
        pb = self.pb
        requests = [pb.AppendRequest(open=pb.AppendRequest.Open(session=name))]
        requests += [pb.AppendRequest(segment=pb.AppendRequest.Segment(
            offset=offset + at, tokens=self.ids(tokens[at:at + PIECE_TOKENS])))
            for at in range(0, len(tokens), PIECE_TOKENS)]
        acks = [r.ack for r in self.memory.Append(iter(requests), timeout=CALL_SECONDS)
                if r.WhichOneof("message") == "ack"]
        assert acks[-1].absorbed_offset == offset + len(tokens), acks[-1]

    def answer(self, name, tokens):
        pb = self.pb
        said = []
        for response in self.memory.Generate(pb.GenerateRequest(
                session=name, tokens=self.ids(tokens), max_tokens=ANSWER_TOKENS, commit=False,
                sampling=pb.SamplingParams(temperature=0)), timeout=CALL_SECONDS):
            said += response.tokens
        return said

    def nats(self, name, tokens):
        """Of all but the first, which nothing of the stretch precedes."""
        pb = self.pb
        requests = [pb.ScoreRequest(open=pb.ScoreRequest.Open(
            session=name, detail=pb.ScoreRequest.TOKENS))]
        requests += [pb.ScoreRequest(tokens=self.ids(tokens[at:at + PIECE_TOKENS]))
                     for at in range(0, len(tokens), PIECE_TOKENS)]
        scores = [score for response in self.memory.Score(iter(requests), timeout=CALL_SECONDS)
                  for score in response.scores]
        assert len(scores) == len(tokens)
        return -sum(score.logprob for score in scores[1:])

    def ids(self, tokens):
        return importlib.import_module("mneme.v1.common_pb2").TokenIds(ids=tokens)


def play(server, played, workers):
    sessions = [server.create(number) for number in range(len(played))]
    print("state bytes", sessions[0].state_bytes)
    offsets = [0] * len(played)

    def read(number, tokens):
        server.append(sessions[number].name, offsets[number], tokens)
        offsets[number] += len(tokens)

    def each(work):
        return list(workers.map(work, range(len(played))))

    each(lambda i: read(i, played[i]["tokens"]))
    answers = []
    for at in range(len(played[0]["stretches"])):
        stretches = [session["stretches"][at] for session in played]
        nats = each(lambda i: server.nats(sessions[i].name, stretches[i]["tokens"][:SCORED_TOKENS]))
        scored = max(1, sum(min(len(s["tokens"]), SCORED_TOKENS) - 1 for s in stretches))
        start = time.monotonic()
        each(lambda i: read(i, stretches[i]["tokens"]))
        seconds = time.monotonic() - start

        def ask(i):
            return [dict(question, session=i, said=server.answer(
                sessions[i].name, question["tokens"])) for question in stretches[i]["questions"]]

        asked = [question for questions in each(ask) for question in questions]
        counts = {}
        for question in asked:
            count = counts.setdefault(question["group"], [0, 0])
            count[0] += question["said"] == question["answer"]
            count[1] += 1
        tokens = sum(len(stretch["tokens"]) for stretch in stretches)
        print(stretches[0]["name"], *[f"{group}: {right}/{count}"
                                      for group, (right, count) in counts.items()],
              f"bits/token {sum(nats) / scored / math.log(2):.3f}",
              f"{tokens / seconds:.0f} tokens/s", sep="  ", flush=True)
        answers.append({"name": stretches[0]["name"], "questions": asked})
    return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for path in ("mnemed", "proto", "model", "sessions"):
        parser.add_argument("--" + path, type=pathlib.Path, required=True)
    parser.add_argument("--answers", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    played = json.loads(args.sessions.read_text())["sessions"]
    with tempfile.TemporaryDirectory() as folder, \
            concurrent.futures.ThreadPoolExecutor(8) as workers:
        stubs = pathlib.Path(folder) / "stubs"
        stubs.mkdir()
        generate_stubs(args.proto.resolve(), stubs)
        with daemons.Daemon(args.mnemed, args.model, folder, "--threads", str(args.threads)) as one:
            answers = play(Server(one.address), played, workers)
    if args.answers:
        args.answers.write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
