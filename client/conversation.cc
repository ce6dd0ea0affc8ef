// SPDX-License-Identifier: Apache-2.0
#include "client/conversation.h"

namespace mneme::client {

absl::StatusOr<v1::GenerateResponse::Finished> Conversation::Turn(
    const std::string& text,
    const std::function<absl::Status(const v1::GenerateResponse&)>&
        on_response) {
  if (!role_.empty()) {
    v1::GenerateRequest request = parameters_;
    request.set_text(text);
    request.set_role(role_);
    return client_->Generate(request, on_response);
  }
  size_t sent = 0;
  const TextSource source =
      [&](int64_t max_bytes) -> absl::StatusOr<std::string> {
    std::string piece = text.substr(sent, static_cast<size_t>(max_bytes));
    sent += piece.size();
    return piece;
  };
  const absl::StatusOr<AppendResult> appended =
      client_->AppendText(parameters_.session(), source);
  if (!appended.ok()) return appended.status();
  return client_->Generate(parameters_, on_response);
}

}  // namespace mneme::client
