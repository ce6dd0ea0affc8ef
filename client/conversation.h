// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_CONVERSATION_H_
#define MNEME_CLIENT_CONVERSATION_H_

#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client.h"

namespace mneme::client {

// Turns of input and answer with one session. This is the one place that
// knows which calls a turn is made of: an Append, then a Generate; with a role
// the Generate alone. Not
// thread-safe, but for Interrupt.
class Conversation {
 public:
  // `parameters` is what every answer is asked for with: limits and sampling,
  // no prompt. `client` outlives it.
  Conversation(Client* client, v1::GenerateRequest parameters)
      : client_(client), parameters_(std::move(parameters)) {}

  // Turns are from now on those of a conversation between `role` and the
  // assistant, set apart as the model's chat template has it.
  void SpeakAs(std::string role) { role_ = std::move(role); }

  // Adds `text` to the history and asks for an answer, each message of which
  // goes to `on_response`; an error from it ends the turn. CANCELLED after
  // Interrupt; what was said until then stays history.
  absl::StatusOr<v1::GenerateResponse::Finished> Turn(
      const std::string& text,
      const std::function<absl::Status(const v1::GenerateResponse&)>&
          on_response);

  // Ends the running turn, if one runs. Thread-safe.
  void Interrupt() { client_->CancelRunning(); }

 private:
  Client* const client_;
  const v1::GenerateRequest parameters_;
  std::string role_;
};

}  // namespace mneme::client

#endif  // MNEME_CLIENT_CONVERSATION_H_
