// SPDX-License-Identifier: Apache-2.0
//
// What is appended, generated, scored.
#include <algorithm>
#include <utility>

#include "engine/base/crc32c.h"
#include "engine/base/wait_for.h"
#include "engine/runtime/history.h"
#include "tests/property/api_caller.h"

namespace mneme {
namespace {

using absl::StatusCode;

constexpr int64_t kMostWriters = 2;
// History beyond which a session is given no more.
constexpr int64_t kMostBytes = 6000;

}  // namespace

// -- Append ------------------------------------------------------------------

enum class ApiCaller::SegmentKind {
  kNext,
  kDuplicate,
  kOverlap,
  kGap,
  kConflict,
  kWrongCrc,
  kNoUtf8,
  kTooLong,
  kEmpty,
  kWrongUnit,
  kNegativeOffset,
  kNoToken,
};

struct ApiCaller::DrawnSegment {
  std::string name;
  AppendStream::Segment segment;
  std::string bytes;
  int64_t known = 0;  // of them the session has
  Wants wants = {{StatusCode::kOk}};
};

bool ApiCaller::OpenWriter(ModelSession& session) {
  AppendOptions options;
  options.session = session.id;
  Wants wants = {{StatusCode::kOk}};
  const bool busy = session.writer.stream != nullptr;
  options.takeover = Chance(busy ? 60 : 20);
  const int64_t fault = Draw(10);
  if (fault == 0) {
    options.uid = "other";
    wants = {{StatusCode::kAborted, "EPOCH_FENCED"}};
  } else if (fault == 1) {
    options.expected_epoch = session.epoch + (Chance(50) ? 1 : -1);
    if (options.expected_epoch == 0) options.expected_epoch = 99;
    wants = {{StatusCode::kAborted, "EPOCH_FENCED"}};
  } else {
    if (fault < 4) options.uid = session.uid;
    if (fault < 6) options.expected_epoch = session.epoch;
    if (busy && !options.takeover) {
      wants = {{StatusCode::kAborted, "SESSION_BUSY"}};
    }
  }
  Log("open a writer of ", session.id, options.takeover ? ", takeover" : "",
      " uid ", options.uid, " epoch ", options.expected_epoch);
  MayLackMemory(wants);
  auto waiter = std::make_unique<ProgressWaiter>();
  auto stream = engine_->OpenAppend(options, waiter.get());
  if (!Expect(stream, wants)) return false;
  const AppendOpened& opened = (*stream)->opened();
  if (busy) {
    ++session.epoch;
    const auto taken =
        session.writer.stream->Write({.offset = 0, .payload = "x"});
    Expect(taken, {{StatusCode::kAborted, "TAKEN_OVER"}});
    Expect(session.writer.stream->status(),
           {{StatusCode::kAborted, "TAKEN_OVER"}});
    const auto info = engine_->GetSession(session.id);
    if (!Expect(info, {{StatusCode::kOk}})) return false;
    if (info->revision <= session.revision) Wrong("the revision stayed");
    session.revision = info->revision;
  }
  session.writer.stream = *std::move(stream);
  session.writer.waiter = std::move(waiter);
  Same("opened uid", opened.uid, session.uid);
  Same("opened epoch", opened.epoch, session.epoch);
  Same("opened next_offset", opened.next_offset, session.next_offset());
  Same("opened absorbed_offset", opened.absorbed_offset, opened.next_offset);
  Same("opened durable_offset", opened.durable_offset,
       setup_.on_disk ? session.next_offset() : 0);
  Same("opened unit", static_cast<int>(opened.unit),
       static_cast<int>(session.unit));
  if (!opened.history_digest.empty()) {
    Same("opened history_digest", opened.history_digest,
         DigestOf(session.history.bytes()));
  }
  return wrong_.empty();
}

ApiCaller::DrawnSegment ApiCaller::DrawSegment(const ModelSession& session) {
  DrawnSegment drawn;
  const std::string had = session.history.bytes();
  const int64_t unit = session.unit_bytes();
  const auto size = static_cast<int64_t>(had.size());
  const bool text = session.unit == SessionUnit::kText;
  drawn.bytes = DrawInput(session, 300);
  int64_t at = size;
  const int64_t kind = Draw(24);
  const auto bad = [&](const char* name, StatusCode code, const char* reason) {
    drawn.name = name;
    drawn.wants = {{code, reason}};
  };
  absl::optional<Payload> payload;
  if (kind == 0 && size > 0) {
    drawn.name = "duplicate";
    at = Draw(size / unit) * unit;
    drawn.bytes = had.substr(at, (1 + Draw((size - at) / unit)) * unit);
  } else if (kind == 1 && size > 0) {
    drawn.name = "overlap";
    at = Draw(size / unit) * unit;
    drawn.bytes = had.substr(at) + drawn.bytes;
  } else if (kind == 2) {
    bad("gap", StatusCode::kOutOfRange, "SEGMENT_GAP");
    at = size + (1 + Draw(5)) * unit;
  } else if (kind == 3 && size > 0) {
    bad("conflict", StatusCode::kFailedPrecondition, "SEGMENT_CONFLICT");
    at = Draw(size / unit) * unit;
    drawn.bytes = had.substr(at, (1 + Draw((size - at) / unit)) * unit);
    drawn.bytes[Draw(static_cast<int64_t>(drawn.bytes.size()) / unit) * unit] ^=
        1;
  } else if (kind == 4) {
    bad("wrong crc", StatusCode::kInvalidArgument, "CRC_MISMATCH");
    drawn.segment.crc32c = Crc32c(drawn.bytes) + 1;
  } else if (kind == 5 && text && session.model == "pieces") {
    bad("no UTF-8", StatusCode::kInvalidArgument, "BAD_UTF8");
    drawn.bytes += Chance(50) ? "\xFF" : "\xC3(";
    if (FollowsAsUtf8(session.history.CutCharacter(), drawn.bytes)) {
      Wrong("the test's own");
    }
  } else if (kind == 6 && Chance(30)) {
    bad("too long", StatusCode::kInvalidArgument, "BAD_FIELD");
    drawn.bytes.assign((1 << 20) + unit, 'a');
    if (!text) payload = std::vector<int32_t>(drawn.bytes.size() / 4, 7);
  } else if (kind == 7) {
    bad("empty", StatusCode::kInvalidArgument, "BAD_FIELD");
    drawn.bytes.clear();
  } else if (kind == 8) {
    bad("wrong unit", StatusCode::kFailedPrecondition, "WRONG_UNIT");
    payload = text ? Payload(std::vector<int32_t>{5, 6}) : Payload("ab");
  } else if (kind == 9) {
    bad("negative offset", StatusCode::kInvalidArgument, "BAD_FIELD");
    at = -unit;
  } else if (kind == 10 && !text) {
    bad("no token", StatusCode::kInvalidArgument, "BAD_FIELD");
    payload = std::vector<int32_t>{5, Chance(50) ? -1 : 1000000};
  } else {
    drawn.name = "next";
    if (Chance(30)) drawn.segment.crc32c = Crc32c(drawn.bytes);
  }
  drawn.segment.offset = at / unit;
  drawn.segment.payload =
      payload.has_value() ? *payload : ToPayload(session.unit, drawn.bytes);
  drawn.known = std::clamp<int64_t>(size - at, 0,
                                    static_cast<int64_t>(drawn.bytes.size()));
  return drawn;
}

void ApiCaller::WriteSegment(ModelSession& session) {
  const DrawnSegment drawn = DrawSegment(session);
  Log("segment of ", session.id, " ", drawn.name, " at ", drawn.segment.offset,
      ", ", drawn.bytes.size(), " bytes");
  ModelWriter& writer = session.writer;
  while (true) {
    const auto taken = writer.stream->Write(drawn.segment);
    if (taken.ok() && taken->offer == Offer::kLater) {
      if (writer.waiter->Wait()) continue;
      Wrong("there is never room for a segment");
      return;
    }
    if (!Expect(taken, drawn.wants)) break;
    Same("duplicate", taken->duplicate, drawn.known > 0);
    Same("verified", taken->verified, true);
    if (drawn.known < static_cast<int64_t>(drawn.bytes.size())) {
      session.history.AddInput(drawn.bytes.substr(drawn.known));
      session.Changed();
    }
    break;
  }
  Expect(writer.stream->status(), {{StatusCode::kOk}});
}

void ApiCaller::AwaitAbsorbed(ModelSession& session) {
  ModelWriter& writer = session.writer;
  const int64_t next = session.next_offset();
  while (true) {
    const AppendProgress progress = writer.stream->progress();
    const int64_t durable = setup_.on_disk ? next : 0;
    if (progress.idle && progress.absorbed_offset == next &&
        progress.durable_offset == durable) {
      return;
    }
    if (!writer.waiter->Wait()) {
      Wrong(absl::StrCat("input is never absorbed: at ",
                         progress.absorbed_offset, ", durable ",
                         progress.durable_offset, ", wanted ", next));
      return;
    }
  }
}

void ApiCaller::Append() {
  const std::string id = PickId();
  ModelSession* const session = FindSession(id);
  if (session == nullptr) {
    Log("open a writer of ", id);
    ProgressWaiter waiter;
    Expect(engine_->OpenAppend({.session = id}, &waiter),
           {{StatusCode::kNotFound}});
    return;
  }
  const bool opens = session->writer.stream == nullptr || Chance(30);
  if (opens && !OpenWriter(*session)) {
    Check(*session);
    return;
  }
  if (session->history.size() > kMostBytes) return;
  for (int64_t i = 1 + Draw(3); i > 0 && wrong_.empty(); --i) {
    WriteSegment(*session);
  }
  if (!wrong_.empty()) return;
  AwaitAbsorbed(*session);
  const auto writers = std::count_if(
      sessions_.begin(), sessions_.end(),
      [](const auto& named) { return named.second->writer.stream != nullptr; });
  if (writers > kMostWriters || Chance(60)) {
    Log("close the writer of ", id);
    session->writer.Close();
  }
  Check(*session);
}

// -- Generate ----------------------------------------------------------------

void ApiCaller::CheckAnswer(ModelSession& session,
                            const GenerateOptions& options,
                            const absl::StatusOr<Generated>& said) {
  const std::string prompt =
      options.prompt.has_value() ? PayloadBytes(*options.prompt) : "";
  const int64_t unit = session.unit_bytes();
  const int64_t begin =
      (session.history.size() + static_cast<int64_t>(prompt.size())) / unit;
  ModelOp op;
  op.kind = ModelOp::Kind::kGenerate;
  op.input = prompt;
  op.options = options;
  op.tokens = said->tokens;
  for (const int32_t token : said->tokens) {
    op.said.push_back(session.unit == SessionUnit::kText
                          ? files_->Decode(session.model, token)
                          : TokenBytes({token}));
  }
  Same("attached", said->started.attached, false);
  Same("offset of the answer", said->started.offset, begin);
  Same("tokens", static_cast<int64_t>(said->tokens.size()), options.max_tokens);
  Same("reason", static_cast<int>(said->finished.reason),
       static_cast<int>(FinishReason::kLength));
  Same("seed", said->finished.stats.seed, *options.sampling.seed);
  if (options.logprobs) {
    Same("logprobs", said->logprobs.size(), said->tokens.size());
  }
  if (session.unit == SessionUnit::kText) {
    Same("text of the answer", said->text, op.text());
  }
  const int64_t end = begin + static_cast<int64_t>(op.text().size()) / unit;
  if (!options.commit) return;
  Same("next_offset behind the answer", said->finished.next_offset, end);
  Same("durable_offset behind the answer", said->finished.durable_offset,
       setup_.on_disk ? end : 0);
  session.history.ops.push_back(std::move(op));
  session.Changed();
}

void ApiCaller::Generate() {
  GenerateOptions options;
  options.session = PickId();
  options.max_tokens = 1 + Draw(Chance(20) ? 90 : 12);
  options.sampling.seed = random_();
  options.sampling.temperature = Chance(30) ? 0.0f : 1.0f;
  options.ignore_eos = true;
  options.logprobs = Chance(30);
  options.commit = !Chance(20);
  ModelSession* const session = FindSession(options.session);
  if (session == nullptr) {
    Log("generate in ", options.session);
    Expect(GenerateAll(*engine_, options), {{StatusCode::kNotFound}});
    return;
  }
  if (options.sampling.temperature == 0) options.sampling.seed = 0;
  options.sampling.logit_bias = files_->PlainBias(session->model);
  if (session->history.size() > kMostBytes) return;
  if (session->history.Kept() != nullptr && session->history.certain &&
      Chance(40)) {
    Attach(*session);
    Check(*session);
    return;
  }
  const std::string cut = session->history.CutCharacter();
  if (Chance(50)) {
    std::string prompt = DrawInput(*session, 100);
    options.prompt = ToPayload(session->unit, prompt);
  }
  if (options.commit && Chance(50)) {
    options.request_id = absl::StrCat("g", ++numbers_);
    options.request_digest = absl::StrCat("d", Draw(1000));
  }
  Wants wants = {{StatusCode::kOk}};
  const int64_t fault = Draw(30);
  const bool text = session->unit == SessionUnit::kText;
  const Wants bad_field = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
  if (fault == 0) {
    options.uid = "other";
    wants = {{StatusCode::kAborted, "EPOCH_FENCED"}};
  } else if (fault == 1) {
    options.max_tokens = -Draw(2);
    wants = bad_field;
  } else if (fault == 2) {
    options.sampling.temperature = -1;
    wants = bad_field;
  } else if (fault == 3) {
    options.prompt = text ? Payload(std::vector<int32_t>{5, 6}) : Payload("ab");
    wants = {{StatusCode::kFailedPrecondition, "WRONG_UNIT"}};
  } else if (fault == 4 && text && session->model == "pieces") {
    options.prompt = Payload(std::string("ab\xFF"));
    wants = {{StatusCode::kInvalidArgument, "BAD_UTF8"}};
  } else if (fault == 5) {
    options.commit = false;
    options.request_id = "g";
    wants = bad_field;
  } else if (fault == 6) {
    options.request_id.clear();
    options.output_offset = 1;
    wants = bad_field;
  } else if (fault == 7) {
    options.commit = true;
    options.request_id = absl::StrCat("g", ++numbers_);
    options.output_offset = 1 + Draw(100);
    wants = {{StatusCode::kOutOfRange, "OFFSET_NOT_KEPT"}};
  } else if (fault == 8) {
    options.sampling.top_k = 100000;
    wants = bad_field;
  } else if (session->history.size() == 0 && !options.prompt.has_value() &&
             !text) {  // a text begins with a token of its own
    wants = {{StatusCode::kFailedPrecondition, "NO_HISTORY"}};
  }
  Log("generate in ", session->id, ", ", options.max_tokens, " tokens, prompt ",
      options.prompt.has_value() ? PayloadSize(*options.prompt) : 0, " id ",
      options.request_id, options.commit ? "" : " without commit", " fault ",
      fault);
  MayLackMemory(wants);
  const auto said = GenerateAll(*engine_, options);
  if (Expect(said, wants)) CheckAnswer(*session, options, said);
  Check(*session);
}

void ApiCaller::Attach(ModelSession& session) {
  const ModelOp kept = *session.history.Kept();
  GenerateOptions options = kept.options;
  options.session = session.id;
  int64_t begin = 0;
  for (const ModelOp& op : session.history.ops) {
    if (op.options.request_id == options.request_id) {
      begin += static_cast<int64_t>(op.input.size());
      break;
    }
    begin += op.bytes();
  }
  begin /= session.unit_bytes();
  Wants wants = {{StatusCode::kOk}};
  size_t first = 0;
  const int64_t kind = Draw(5);
  if (kind == 0) {
    options.request_digest += "x";
    wants = {{StatusCode::kInvalidArgument, "REQUEST_ID_REUSED"}};
  } else if (kind == 1 && !kept.said.empty()) {
    first = Draw(static_cast<int64_t>(kept.said.size()));
    options.output_offset = begin;
    for (size_t i = 0; i < first; ++i) {
      options.output_offset +=
          static_cast<int64_t>(kept.said[i].size()) / session.unit_bytes();
    }
  } else if (kind == 2 && begin > 0) {
    options.output_offset = begin - 1;
    if (options.output_offset == 0) return;
    wants = {{StatusCode::kOutOfRange, "OFFSET_NOT_KEPT"}};
  }
  Log("generate in ", session.id, " again: ", options.request_id, " offset ",
      options.output_offset, " digest ", options.request_digest);
  const auto said = GenerateAll(*engine_, options);
  if (!Expect(said, wants)) return;
  Same("attached", said->started.attached, true);
  Same("offset of the answer", said->started.offset, begin);
  const std::vector<int32_t> tokens(
      kept.tokens.begin() + static_cast<int64_t>(first), kept.tokens.end());
  if (said->tokens != tokens) {
    Wrong(absl::StrCat("the answer has ", said->tokens.size(),
                       " tokens, or others, wanted ", tokens.size()));
  }
  Same("reason", static_cast<int>(said->finished.reason),
       static_cast<int>(kept.cut ? FinishReason::kCancelled
                                 : FinishReason::kLength));
}

// -- Score, commit -----------------------------------------------------------

void ApiCaller::ScoreNothing(const ScoreOptions& options,
                             const Payload& payload, const Wants& wants) {
  ProgressWaiter waiter;
  const auto scoring = engine_->Score(options, &waiter);
  if (!scoring.ok()) {
    Expect(scoring, wants);
    return;
  }
  Expect((*scoring)->Write(payload), wants);
  (*scoring)->Cancel();
  absl::optional<ScoreEvent> event;
  while (!(event = (*scoring)->Poll()).has_value()) {
    if (waiter.Wait()) continue;
    Wrong("a cancelled score never ends");
    return;
  }
  Expect(event->status, {{StatusCode::kCancelled}});
}

void ApiCaller::Score() {
  ScoreOptions options;
  options.session = PickId();
  options.commit = Chance(50);
  ModelSession* const session = FindSession(options.session);
  Payload payload = "ab";
  bool refused = false;  // of its input
  Wants wants = {{StatusCode::kOk}};
  if (session == nullptr) {
    wants = {{StatusCode::kNotFound}};
  } else {
    if (session->history.size() > kMostBytes) return;
    // What is scored is a text by itself.
    ModelSession empty;
    empty.model = session->model;
    empty.unit = session->unit;
    std::string input = DrawInput(empty, 150);
    while (session->model == "pieces" && session->unit == SessionUnit::kText &&
           FollowsAsUtf8("", input + "\xFF")) {
      input.pop_back();
    }
    if (session->model == "pieces" && session->unit == SessionUnit::kText) {
      ModelHistory whole;
      whole.AddInput(input);
      input.resize(input.size() - whole.CutCharacter().size());
      if (input.empty()) return;
    }
    payload = ToPayload(session->unit, input);
    const int64_t fault = Draw(12);
    refused = fault == 1 || fault == 2;
    if (fault == 0) {
      options.uid = "other";
      wants = {{StatusCode::kAborted, "EPOCH_FENCED"}};
    } else if (fault == 1) {
      options.commit = false;
      payload = session->unit == SessionUnit::kText
                    ? Payload(std::vector<int32_t>{5, 6})
                    : Payload("ab");
      wants = {{StatusCode::kFailedPrecondition, "WRONG_UNIT"}};
    } else if (fault == 2 && session->model == "pieces" &&
               session->unit == SessionUnit::kText) {
      options.commit = false;
      payload = std::string("ab\xFF");
      wants = {{StatusCode::kInvalidArgument, "BAD_UTF8"}};
    } else {
      refused = false;
    }
  }
  if (options.commit) options.request = Tag<ScoreEvent>();
  Log("score in ", options.session, options.commit ? ", committed, " : ", ",
      PayloadSize(payload), " bytes");
  MayLackMemory(wants);
  if (refused) {
    ScoreNothing(options, payload, wants);
    Check(*session);
    return;
  }
  const auto scored =
      ScoreAll(*engine_, options, payload, {1 + Draw(40), 1 + Draw(40)});
  if (Expect(scored, wants)) {
    const int64_t unit = session->unit_bytes();
    const std::string bytes = PayloadBytes(payload);
    const int64_t before = session->next_offset();
    const auto units = static_cast<int64_t>(bytes.size()) / unit;
    Same("next_offset behind the score", scored->finished.next_offset,
         options.commit ? before + units : before);
    if (options.commit) {
      Answered(options.request, scored->finished);
      ModelOp op;
      op.kind = ModelOp::Kind::kScore;
      std::vector<int64_t> begins;
      for (const ScoreEvent::Token& token : scored->tokens) {
        if (token.offset > before) begins.push_back(token.offset);
      }
      begins.push_back(before + units);
      int64_t at = before;
      for (const int64_t end : begins) {
        if (end == at) continue;
        op.said.push_back(
            bytes.substr((at - before) * unit, (end - at) * unit));
        at = end;
      }
      session->history.ops.push_back(std::move(op));
      session->Changed();
    }
  }
  if (session != nullptr) Check(*session);
}

void ApiCaller::CommitSegment() {
  SegmentCommitOptions options;
  options.session = PickId();
  ModelSession* const session = FindSession(options.session);
  Wants wants = {{StatusCode::kOk}};
  if (session == nullptr) {
    wants = {{StatusCode::kNotFound}};
  } else if (session->model != "infini") {
    wants = {{StatusCode::kUnimplemented, "NOT_SUPPORTED"}};
  } else if (Chance(15)) {
    options.uid = "other";
    wants = {{StatusCode::kAborted, "EPOCH_FENCED"}};
  }
  options.request = Tag<SegmentCommit>();
  Log("commit the segment of ", options.session);
  MayLackMemory(wants);
  const auto commit = WaitFor<absl::StatusOr<SegmentCommit>>(
      [&](const auto& done) { engine_->CommitSegment(options, done); });
  if (Expect(commit, wants)) {
    Answered(options.request, *commit);
    const bool begins = session->unit == SessionUnit::kText;
    Same("position of the commit", commit->position,
         session->next_offset() + (begins ? 1 : 0));
    ModelOp op;
    op.kind = ModelOp::Kind::kCommitSegment;
    session->history.ops.push_back(std::move(op));
    session->Changed();
  }
  if (session != nullptr) Check(*session);
}

}  // namespace mneme
