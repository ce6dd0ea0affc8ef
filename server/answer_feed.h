// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_ANSWER_FEED_H_
#define MNEME_SERVER_ANSWER_FEED_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "mneme/v1/memory.pb.h"
#include "server/service_context.h"

namespace mneme::server {

// The answering half of a stream: a generation on its way to the client.
// Guarded by its reactor.
class AnswerFeed {
 public:
  explicit AnswerFeed(const ServiceContext& context) : context_(context) {}

  // Starts a generation, or attaches to one. `listener` outlives it.
  // REQUIRES: none runs, and the session is held.
  absl::Status Begin(const GenerateOptions& options, StreamListener* listener);
  bool running() const { return stream_ != nullptr; }

  // Polls what is ready into `response`; false if that is nothing. The tokens
  // that wait while a message is being written go into the next one together.
  // REQUIRES: running().
  bool Fill(v1::GenerateResponse* response);

  // How the last generation ended, once it did: OK, or what went wrong.
  const absl::optional<absl::Status>& end() const { return end_; }
  // Whether it ended well, but by a cancellation. To one that attached to ask
  // what became of it, that is an answer like any other.
  bool cut_off() const { return cut_off_; }

  // It ends soon, and says so.
  void Interrupt() { stream_->Cancel(); }
  // The client is gone: it goes on or ends, as was agreed.
  void Lose(FinishReason reason);

  const std::string& model() const { return model_; }
  bool had_output() const { return had_output_; }

 private:
  const ServiceContext context_;
  std::string model_;
  // Until its end: the session is free again before the client can know it.
  std::unique_ptr<Generation> stream_;
  bool attached_ = false;
  bool had_output_ = false;
  absl::optional<absl::Status> end_;
  bool cut_off_ = false;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_ANSWER_FEED_H_
