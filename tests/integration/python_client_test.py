#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Talks to the real daemon with a client made from the protos alone.

The stubs are generated here with protoc and grpc_python_plugin, so this also
shows that the contract needs nothing of ours to be used from another language.

    python_client_test.py --mnemed PATH --mkmodel PATH --proto DIR

Exits 77, which ctest counts as skipped, where Python's gRPC is missing.
"""

import argparse
import importlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import daemon as daemons

CALL_SECONDS = 60  # No call takes nearly as long; a hang fails instead.

try:
    import grpc
except ImportError:
    print("skipped: Python's grpc module is not installed")
    sys.exit(77)


def generate_stubs(proto, out):
    plugin = shutil.which("grpc_python_plugin")
    assert plugin, "grpc_python_plugin is not installed"
    files = sorted(str(path.relative_to(proto)) for path in proto.rglob("*.proto"))
    subprocess.run(
        ["protoc", f"--proto_path={proto}", f"--python_out={out}",
         f"--grpc_out={out}", f"--plugin=protoc-gen-grpc={plugin}", *files],
        check=True, cwd=proto)
    sys.path.insert(0, str(out))


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class PythonClientTest(unittest.TestCase):
    address = ""
    made = 0

    @classmethod
    def setUpClass(cls):
        def load(name):
            return importlib.import_module(name)

        cls.sessions_pb = load("mneme.v1.sessions_pb2")
        cls.memory_pb = load("mneme.v1.memory_pb2")
        cls.models_pb = load("mneme.v1.models_pb2")
        cls.rpc_status = load("google.rpc.status_pb2")
        cls.rpc_details = load("google.rpc.error_details_pb2")
        cls.channel = grpc.insecure_channel(cls.address)
        cls.sessions = load("mneme.v1.sessions_pb2_grpc").SessionsStub(cls.channel)
        cls.memory = load("mneme.v1.memory_pb2_grpc").MemoryStub(cls.channel)
        cls.models = load("mneme.v1.models_pb2_grpc").ModelsStub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()

    # What the tests say.

    def create(self, unit="TEXT"):
        PythonClientTest.made += 1
        pb = self.sessions_pb
        session = self.sessions.CreateSession(pb.CreateSessionRequest(
            session_id=f"python-{self.made}",
            session=pb.Session(model="models/tiny", unit=pb.Session.Unit.Value(unit),
                               labels={"made-by": "python"})), timeout=CALL_SECONDS)
        return session.name

    def get(self, name):
        return self.sessions.GetSession(
            self.sessions_pb.GetSessionRequest(name=name), timeout=CALL_SECONDS)

    def segment(self, offset, text, crc=None):
        pb = self.memory_pb
        return pb.AppendRequest(segment=pb.AppendRequest.Segment(
            offset=offset, text=text, crc32c=crc32c(text) if crc is None else crc))

    def append(self, name, *segments):
        """Sends segments and half-closes; returns (opened, acks)."""
        pb = self.memory_pb
        requests = [pb.AppendRequest(open=pb.AppendRequest.Open(session=name)), *segments]
        responses = list(self.memory.Append(iter(requests), timeout=CALL_SECONDS))
        self.assertEqual(responses[0].WhichOneof("message"), "opened")
        acks = [r.ack for r in responses if r.WhichOneof("message") == "ack"]
        self.assertTrue(acks, "the stream ended without an ack")
        return responses[0].opened, acks

    def generate(self, name, prompt, **fields):
        """Greedy; returns (text, tokens, started, finished)."""
        pb = self.memory_pb
        request = pb.GenerateRequest(
            session=name, text=prompt, max_tokens=20, ignore_eos=True,
            sampling=pb.SamplingParams(temperature=0), **fields)
        responses = list(self.memory.Generate(request, timeout=CALL_SECONDS))
        self.assertTrue(responses[-1].HasField("finished"), "no last message")
        return (b"".join(r.text for r in responses),
                [token for r in responses for token in r.tokens],
                responses[0].started, responses[-1].finished)

    def score(self, name, *texts, **fields):
        pb = self.memory_pb
        requests = [pb.ScoreRequest(open=pb.ScoreRequest.Open(session=name, **fields))]
        requests += [pb.ScoreRequest(text=text) for text in texts]
        return list(self.memory.Score(iter(requests), timeout=CALL_SECONDS))

    def refused(self, code, call):
        """Runs a call that has to fail with `code`; returns (error, ErrorInfo)."""
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        error = caught.exception
        self.assertEqual(error.code(), code, error.details())
        self.assertTrue(error.details(), "the error says nothing")
        info = self.rpc_details.ErrorInfo()
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                for detail in self.rpc_status.Status.FromString(value).details:
                    detail.Unpack(info)
        return error, info

    # The tests.

    def test_a_new_session_is_empty(self):
        session = self.get(self.create())
        self.assertEqual(session.model, "models/tiny")
        self.assertEqual(session.next_offset, 0)
        self.assertEqual(session.labels["made-by"], "python")
        self.assertTrue(session.uid)
        self.assertRegex(session.state_digest, "^[0-9a-f]{64}$")
        self.assertRegex(session.history_digest, "^[0-9a-f]{64}$")
        self.assertEqual(session.durability, self.sessions_pb.Session.NONE)
        self.assertGreater(session.state_bytes, 0)

    def test_segments_become_history(self):
        name = self.create()
        pieces = [b"It was a bright cold day in April, ", b"and the clocks ",
                  b"were striking thirteen. " * 5]
        segments, offset = [], 0
        for piece in pieces:
            segments.append(self.segment(offset, piece))
            offset += len(piece)
        opened, acks = self.append(name, *segments)
        self.assertEqual(opened.next_offset, 0)
        self.assertGreater(opened.max_inflight_bytes, 0)
        self.assertGreater(opened.max_segment_bytes, 0)
        self.assertEqual(acks[-1].absorbed_offset, offset)
        self.assertEqual(acks[-1].durable_offset, 0)  # It lives in RAM only.
        session = self.get(name)
        self.assertEqual(session.next_offset, offset)
        self.assertEqual(session.absorbed_offset, offset)
        self.assertGreater(session.position, 0)
        self.assertLess(session.pending_tokens, 64)

    def test_cuts_leave_no_trace(self):
        text = b"The quick brown fox jumps over the lazy dog. " * 10
        whole, cut = self.create(), self.create()
        self.append(whole, self.segment(0, text))
        self.append(cut, *[self.segment(at, text[at:at + 7])
                           for at in range(0, len(text), 7)])
        self.assertEqual(self.get(whole).state_digest, self.get(cut).state_digest)
        self.assertEqual(self.get(whole).history_digest, self.get(cut).history_digest)

    def test_a_duplicate_is_applied_once(self):
        name = self.create()
        self.append(name, self.segment(0, b"abcdef"))
        before = self.get(name)
        _, acks = self.append(name, self.segment(0, b"abcdef"))
        self.assertTrue(any(ack.duplicate for ack in acks))
        self.assertTrue(all(ack.verified for ack in acks))
        self.assertEqual(acks[-1].absorbed_offset, 6)
        self.assertEqual(self.get(name).history_digest, before.history_digest)
        # One that overlaps adds only what is new.
        _, acks = self.append(name, self.segment(3, b"defghi"))
        self.assertEqual(acks[-1].absorbed_offset, 9)

    def test_a_gap_is_out_of_range(self):
        name = self.create()
        self.append(name, self.segment(0, b"abc"))
        _, info = self.refused(grpc.StatusCode.OUT_OF_RANGE,
                               lambda: self.append(name, self.segment(5, b"xyz")))
        self.assertEqual(info.reason, "SEGMENT_GAP")
        self.assertEqual(info.domain, "mneme")
        self.assertEqual(info.metadata["expected_offset"], "3")
        self.assertEqual(self.get(name).next_offset, 3)

    def test_other_bytes_at_the_same_offset_conflict(self):
        name = self.create()
        self.append(name, self.segment(0, b"abc"))
        _, info = self.refused(grpc.StatusCode.FAILED_PRECONDITION,
                               lambda: self.append(name, self.segment(0, b"abd")))
        self.assertEqual(info.reason, "SEGMENT_CONFLICT")

    def test_a_damaged_segment_changes_nothing(self):
        name = self.create()
        _, info = self.refused(
            grpc.StatusCode.INVALID_ARGUMENT,
            lambda: self.append(name, self.segment(0, b"abc", crc=crc32c(b"abd"))))
        self.assertEqual(info.reason, "CRC_MISMATCH")
        self.assertEqual(self.get(name).next_offset, 0)

    def test_equal_histories_give_equal_answers(self):
        answers = []
        for cuts in ([0, 40], [0, 3, 40]):
            name = self.create()
            text = b"All happy families are alike; each unhappy one..."[:40]
            self.append(name, *[self.segment(a, text[a:b])
                                for a, b in zip(cuts, cuts[1:])])
            before = self.get(name)
            answer, tokens, started, finished = self.generate(name, b" So ")
            self.assertEqual(started.offset, before.next_offset + len(b" So "))
            self.assertLessEqual(len(tokens), 20)
            self.assertEqual(finished.finish_reason,
                             self.memory_pb.GenerateResponse.Finished.LENGTH)
            self.assertEqual(finished.stats.generated_tokens, 20)
            after = self.get(name)
            self.assertEqual(after.next_offset, finished.next_offset)
            self.assertEqual(after.position, finished.position)
            answers.append((answer, tokens, after.state_digest, after.history_digest))
        self.assertEqual(answers[0], answers[1])

    def letters(self, name, **fields):
        """A request for random letters."""
        pb = self.memory_pb
        return pb.GenerateRequest(
            session=name, text=b"Spell: ", max_tokens=40,
            sampling=pb.SamplingParams(seed=3, top_p=0.95, logit_bias={
                byte: 50 for byte in b"abcdefgh"}), **fields)

    def answer(self, request):
        """Returns (text, all messages joined)."""
        responses = list(self.memory.Generate(request, timeout=CALL_SECONDS))
        joined = self.memory_pb.GenerateResponse()
        for response in responses:
            joined.MergeFrom(response)
        return b"".join(r.text for r in responses), joined

    def test_a_stop_string_ends_the_answer_before_it(self):
        whole, _ = self.answer(self.letters(self.create()))
        self.assertEqual(len(whole), 40)
        stop = whole[20:25].decode()
        name = self.create()
        text, joined = self.answer(self.letters(name, stop=["?", stop]))
        at = whole.index(stop.encode())
        self.assertEqual(text, whole[:at])
        self.assertEqual(list(joined.tokens), list(whole[:at]))
        self.assertEqual(joined.finished.stop, stop)
        self.assertEqual(joined.finished.finish_reason,
                         self.memory_pb.GenerateResponse.Finished.STOP)
        # The stop string is history.
        self.assertEqual(self.get(name).next_offset, 7 + at + 5)

    def test_logprobs_come_with_the_likeliest_tokens(self):
        text, joined = self.answer(self.letters(
            self.create(), logprobs=True, top_logprobs=3))
        self.assertEqual([l.token for l in joined.logprobs], list(joined.tokens))
        self.assertEqual(b"".join(l.text for l in joined.logprobs), text)
        for logprob in joined.logprobs:
            top = [likely.logprob for likely in logprob.top]
            self.assertEqual(len(top), 3)
            self.assertEqual(top, sorted(top, reverse=True))
            self.assertLessEqual(logprob.logprob, top[0])
            self.assertLessEqual(top[0], 0)

    def test_the_same_request_id_attaches_to_the_same_answer(self):
        name = self.create()
        request = self.letters(name, request_id="3d3b9d6c",
                               on_disconnect=self.memory_pb.GenerateRequest.FINISH)
        # The connection is cut as soon as the answer begins.
        cut = self.memory.Generate(request, timeout=CALL_SECONDS)
        started = next(iter(cut)).started
        self.assertFalse(started.attached)
        cut.cancel()
        text, joined = self.answer(request)
        self.assertTrue(joined.started.attached)
        self.assertEqual(joined.started.offset, started.offset)
        self.assertEqual(len(text), 40)
        before = self.get(name)
        self.assertEqual(before.next_offset, 47)

        request.output_offset = started.offset + 30
        self.assertEqual(self.answer(request)[0], text[30:])
        request.output_offset = 1000
        _, info = self.refused(grpc.StatusCode.OUT_OF_RANGE,
                               lambda: self.answer(request))
        self.assertEqual(info.reason, "OFFSET_NOT_KEPT")
        self.assertEqual(info.metadata["nearest_offset"], "47")
        request.output_offset = 0
        request.max_tokens = 41
        _, info = self.refused(grpc.StatusCode.INVALID_ARGUMENT,
                               lambda: self.answer(request))
        self.assertEqual(info.reason, "REQUEST_ID_REUSED")
        self.assertEqual(self.get(name).state_digest, before.state_digest)

    def test_an_answer_that_was_cut_off_says_so_when_asked_again(self):
        name = self.create()
        request = self.letters(name, request_id="7c1e")
        request.max_tokens = 1000000
        with self.assertRaises(grpc.RpcError) as caught:
            list(self.memory.Generate(request, timeout=1))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        session = self.get(name)
        # More than is kept of it may have been said.
        request.output_offset = session.next_offset
        deadline = self.memory_pb.GenerateResponse.Finished.DEADLINE
        _, joined = self.answer(request)
        self.assertEqual(joined.finished.finish_reason, deadline)
        self.assertEqual(joined.finished.next_offset, session.next_offset)

    def test_absurd_sampling_is_refused_by_field(self):
        name = self.create()
        for field, value in (("top_p", float("nan")), ("top_k", -1),
                             ("penalty_window_tokens", 1025)):
            request = self.memory_pb.GenerateRequest(
                session=name,
                sampling=self.memory_pb.SamplingParams(**{field: value}))
            _, info = self.refused(grpc.StatusCode.INVALID_ARGUMENT,
                                   lambda: self.answer(request))
            self.assertEqual(info.metadata["field"], f"sampling.{field}")

    def test_an_uncommitted_answer_leaves_no_trace(self):
        name = self.create()
        self.append(name, self.segment(0, b"Call me Ishmael."))
        before = self.get(name)
        self.generate(name, b" Why", commit=False)
        after = self.get(name)
        self.assertEqual(after.history_digest, before.history_digest)
        self.assertEqual(after.state_digest, before.state_digest)

    def test_a_score_is_the_same_however_it_is_cut(self):
        name = self.create()
        self.append(name, self.segment(0, b"Some years ago, "))
        before = self.get(name)
        whole = self.score(name, b"never mind how long precisely")[-1]
        cut = self.score(name, b"never mind ", b"how long", b" precisely")[-1]
        self.assertTrue(whole.HasField("finished"), "no last message")
        self.assertEqual(whole.totals, cut.totals)
        self.assertEqual(whole.totals.bytes, 29)
        self.assertGreater(whole.totals.tokens_scored, 0)
        self.assertLess(whole.totals.logprob_sum, 0)
        self.assertGreater(whole.totals.bits_per_byte, 0)
        self.assertEqual(self.get(name).state_digest, before.state_digest)

    def test_detailed_scores_add_up_to_the_total(self):
        name = self.create()
        responses = self.score(name, b"abc" * 50,
                               detail=self.memory_pb.ScoreRequest.TOKENS)
        scores = [score for r in responses for score in r.scores]
        totals = responses[-1].totals
        self.assertEqual(len(scores), totals.tokens_scored)
        self.assertAlmostEqual(sum(s.logprob for s in scores), totals.logprob_sum,
                               delta=1e-6 * abs(totals.logprob_sum))

    def test_models_are_described(self):
        pb = self.models_pb
        listed = self.models.ListModels(pb.ListModelsRequest(), timeout=CALL_SECONDS)
        self.assertEqual([model.name for model in listed.models], ["models/tiny"])
        model = self.models.GetModel(pb.GetModelRequest(name="models/tiny"),
                                     timeout=CALL_SECONDS)
        self.assertRegex(model.fingerprint, "^[0-9a-f]{64}$")
        self.assertGreater(model.state_bytes, 0)
        self.assertGreater(model.vocab_size, 0)
        self.assertEqual(model.block_tokens, 64)
        _, info = self.refused(
            grpc.StatusCode.NOT_FOUND,
            lambda: self.models.GetModel(pb.GetModelRequest(name="models/none"),
                                         timeout=CALL_SECONDS))
        self.assertEqual(info.reason, "MODEL_NOT_FOUND")

    def test_sessions_are_listed_in_pages(self):
        names = {self.create() for _ in range(3)}
        pb = self.sessions_pb
        found, token = set(), ""
        while True:
            page = self.sessions.ListSessions(
                pb.ListSessionsRequest(page_size=2, page_token=token), timeout=CALL_SECONDS)
            self.assertLessEqual(len(page.sessions), 2)
            found |= {session.name for session in page.sessions}
            token = page.next_page_token
            if not token:
                break
        self.assertLessEqual(names, found)

    def test_what_a_model_cannot_do_is_unimplemented(self):
        # A TTT model has no memory segment to commit.
        name = self.create()
        self.refused(grpc.StatusCode.UNIMPLEMENTED,
                     lambda: self.memory.CommitSegment(
                         self.memory_pb.CommitSegmentRequest(session=name),
                         timeout=CALL_SECONDS))

    def test_a_deleted_session_is_gone_and_its_id_free(self):
        pb = self.sessions_pb
        name = self.create()
        old = self.get(name)
        self.append(name, self.segment(0, b"abc"))
        self.sessions.DeleteSession(pb.DeleteSessionRequest(name=name), timeout=CALL_SECONDS)
        _, info = self.refused(grpc.StatusCode.NOT_FOUND, lambda: self.get(name))
        self.assertEqual(info.reason, "SESSION_NOT_FOUND")
        new = self.sessions.CreateSession(
            pb.CreateSessionRequest(session_id=name.split("/")[1]), timeout=CALL_SECONDS)
        self.assertEqual(new.next_offset, 0)
        self.assertNotEqual(new.uid, old.uid)

    def test_a_taken_id_is_refused(self):
        name = self.create()
        self.refused(grpc.StatusCode.ALREADY_EXISTS,
                     lambda: self.sessions.CreateSession(
                         self.sessions_pb.CreateSessionRequest(
                             session_id=name.split("/")[1]), timeout=CALL_SECONDS))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnemed", required=True, help="the daemon")
    parser.add_argument("--mkmodel", required=True, help="mneme-mkmodel")
    parser.add_argument("--proto", required=True, type=pathlib.Path,
                        help="folder of the .proto files")
    arguments, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="mneme-python-") as folder:
        folder = pathlib.Path(folder)
        stubs = folder / "stubs"
        stubs.mkdir()
        generate_stubs(arguments.proto.resolve(), stubs)
        model = daemons.make_model(arguments.mkmodel, folder)
        with daemons.Daemon(arguments.mnemed, model, folder) as daemon:
            PythonClientTest.address = daemon.address
            program = unittest.main(argv=[sys.argv[0], *rest], exit=False, verbosity=2)
        passed = program.result.wasSuccessful()
        if not passed:
            daemon.show_log()
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
