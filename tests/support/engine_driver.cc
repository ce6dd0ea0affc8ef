// SPDX-License-Identifier: Apache-2.0
#include "tests/support/engine_driver.h"

#include <algorithm>
#include <utility>

#include "absl/types/optional.h"
#include "engine/base/status_macros.h"
#include "engine/base/wait_for.h"

namespace mneme {
namespace {

absl::Status TimedOut(const char* what) {
  return absl::DeadlineExceededError(std::string(what) + ": no progress");
}

int64_t SizeOf(const Payload& payload) {
  return std::visit(
      [](const auto& p) { return static_cast<int64_t>(p.size()); }, payload);
}

}  // namespace

std::vector<Payload> Cut(const Payload& payload,
                         const std::vector<int64_t>& sizes) {
  const int64_t total = SizeOf(payload);
  std::vector<Payload> pieces;
  int64_t at = 0;
  for (size_t i = 0; at < total; ++i) {
    int64_t size = sizes.empty() ? total : sizes[i % sizes.size()];
    size = std::clamp<int64_t>(size, 1, total - at);
    if (const auto* text = std::get_if<std::string>(&payload)) {
      pieces.emplace_back(text->substr(at, size));
    } else {
      const auto& tokens = std::get<std::vector<int32_t>>(payload);
      pieces.emplace_back(std::vector<int32_t>(tokens.begin() + at,
                                               tokens.begin() + at + size));
    }
    at += size;
  }
  return pieces;
}

absl::Status AppendAll(Engine& engine, const std::string& session,
                       const Payload& payload,
                       const std::vector<int64_t>& sizes) {
  ProgressWaiter waiter;
  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<AppendStream> stream,
                         engine.OpenAppend({.session = session}, &waiter));
  int64_t offset = stream->opened().next_offset;
  for (Payload& piece : Cut(payload, sizes)) {
    const int64_t size = SizeOf(piece);
    const AppendStream::Segment segment{.offset = offset,
                                        .payload = std::move(piece)};
    while (true) {
      MNEME_ASSIGN_OR_RETURN(const AppendStream::Taken taken,
                             stream->Write(segment));
      if (taken.offer == Offer::kTaken) break;
      if (!waiter.Wait()) return TimedOut("append");
    }
    offset += size;
  }
  while (!stream->progress().idle) {
    MNEME_RETURN_IF_ERROR(stream->status());
    if (!waiter.Wait()) return TimedOut("append");
  }
  return stream->status();
}

absl::StatusOr<Generated> GenerateAll(Engine& engine,
                                      const GenerateOptions& options) {
  ProgressWaiter waiter;
  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<Generation> generation,
                         engine.Generate(options, &waiter));
  return ReadAll(*generation, waiter);
}

absl::StatusOr<Generated> ReadAll(Generation& generation,
                                  ProgressWaiter& waiter) {
  Generated result;
  while (true) {
    const absl::optional<GenerateEvent> event = generation.Poll();
    if (!event.has_value()) {
      if (!waiter.Wait()) return TimedOut("generate");
      continue;
    }
    switch (event->kind) {
      case GenerateEvent::Kind::kStarted:
        result.started = *event;
        break;
      case GenerateEvent::Kind::kOutput:
        result.text += event->text;
        if (event->token.has_value()) result.tokens.push_back(*event->token);
        if (event->logprob.has_value()) {
          result.logprobs.push_back(*event->logprob);
        }
        break;
      case GenerateEvent::Kind::kFinished:
        result.finished = *event;
        if (!event->status.ok()) return event->status;
        return result;
    }
  }
}

absl::StatusOr<Scored> ScoreAll(Engine& engine, const ScoreOptions& options,
                                const Payload& payload,
                                const std::vector<int64_t>& sizes) {
  ProgressWaiter waiter;
  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<Scoring> scoring,
                         engine.Score(options, &waiter));
  std::vector<Payload> pieces = Cut(payload, sizes);
  size_t next = 0;
  bool finished = false;
  Scored result;
  while (true) {
    if (next < pieces.size()) {
      MNEME_ASSIGN_OR_RETURN(const Offer offer, scoring->Write(pieces[next]));
      if (offer == Offer::kTaken) {
        ++next;
        continue;
      }
    } else if (!std::exchange(finished, true)) {
      scoring->FinishInput();
    }
    const absl::optional<ScoreEvent> event = scoring->Poll();
    if (!event.has_value()) {
      if (!waiter.Wait()) return TimedOut("score");
      continue;
    }
    if (event->kind == ScoreEvent::Kind::kTokens) {
      result.tokens.insert(result.tokens.end(), event->tokens.begin(),
                           event->tokens.end());
      continue;
    }
    result.finished = *event;
    if (!event->status.ok()) return event->status;
    return result;
  }
}

absl::StatusOr<SessionInfo> Describe(Engine& engine, const std::string& id) {
  return WaitFor<absl::StatusOr<SessionInfo>>(
      [&](const auto& done) { engine.DescribeSession(id, done); });
}

absl::StatusOr<SessionInfo> Fork(Engine& engine, const ForkOptions& options) {
  return WaitFor<absl::StatusOr<SessionInfo>>(
      [&](const auto& done) { engine.ForkSession(options, done); });
}

absl::StatusOr<SessionInfo> Reset(Engine& engine, const ResetOptions& options) {
  return WaitFor<absl::StatusOr<SessionInfo>>(
      [&](const auto& done) { engine.ResetSession(options, done); });
}

absl::StatusOr<SessionInfo> Rollback(Engine& engine,
                                     const RollbackOptions& options) {
  return WaitFor<absl::StatusOr<SessionInfo>>(
      [&](const auto& done) { engine.RollbackSession(options, done); });
}

absl::StatusOr<SnapshotInfo> KeepSnapshot(Engine& engine,
                                          const SnapshotOptions& options) {
  return WaitFor<absl::StatusOr<SnapshotInfo>>(
      [&](const auto& done) { engine.CreateSnapshot(options, done); });
}

absl::StatusOr<SegmentCommit> CommitSegment(Engine& engine,
                                            const std::string& id) {
  return WaitFor<absl::StatusOr<SegmentCommit>>(
      [&](const auto& done) { engine.CommitSegment({.session = id}, done); });
}

absl::StatusOr<std::unique_ptr<SessionExport>> Export(Engine& engine,
                                                      const std::string& id) {
  return WaitFor<absl::StatusOr<std::unique_ptr<SessionExport>>>(
      [&](const auto& done) { engine.ExportSession(id, "", done); });
}

absl::StatusOr<SessionInfo> Finish(SessionImport& import) {
  return WaitFor<absl::StatusOr<SessionInfo>>(
      [&](const auto& done) { import.Finish(done); });
}

}  // namespace mneme
