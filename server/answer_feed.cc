// SPDX-License-Identifier: Apache-2.0
#include "server/answer_feed.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "server/convert.h"

namespace mneme::server {
namespace {

// Tokens that one message may join.
constexpr int kMaxTokensPerMessage = 256;

}  // namespace

absl::Status AnswerFeed::Begin(const GenerateOptions& options,
                               StreamListener* listener) {
  attached_ = false;
  had_output_ = false;
  end_.reset();
  cut_off_ = false;
  MNEME_ASSIGN_OR_RETURN(stream_, context_.engine->Generate(options, listener));
  const absl::StatusOr<SessionInfo> info =
      context_.engine->GetSession(options.session);
  if (info.ok()) model_ = info->model;
  return absl::OkStatus();
}

bool AnswerFeed::Fill(v1::GenerateResponse* response) {
  bool filled = false;
  while (response->tokens_size() < kMaxTokensPerMessage) {
    const absl::optional<GenerateEvent> event = stream_->Poll();
    if (!event.has_value()) return filled;
    if (event->kind == GenerateEvent::Kind::kFinished) {
      stream_.reset();
      end_ = event->status;
      if (!event->status.ok()) return filled;
      cut_off_ = !attached_ && (event->reason == FinishReason::kCancelled ||
                                event->reason == FinishReason::kDeadline);
      AddEvent(*event, response);
      return true;
    }
    if (event->kind == GenerateEvent::Kind::kOutput) had_output_ = true;
    if (event->attached) {
      attached_ = true;
      context_.metrics->OnStreamResumed(model_, ResumeKind::kGenerate);
    }
    AddEvent(*event, response);
    filled = true;
  }
  return true;
}

void AnswerFeed::Lose(FinishReason reason) {
  if (stream_ == nullptr) return;
  stream_->Disconnect(reason);
  stream_.reset();
}

}  // namespace mneme::server
