// SPDX-License-Identifier: Apache-2.0
//
// Asking a server about itself, and its tokenizers.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/commands.h"
#include "client/input.h"

namespace mneme::client {
namespace {

// The most that one call takes.
constexpr int64_t kMaxTextBytes = 1 << 20;

// All of the input.
absl::StatusOr<std::string> ReadAll(const Cli& cli, const TextArgs& args) {
  if (args.text.has_value()) return *args.text;
  const auto input = Input::Open(
      {args.file}, [flag = cli.interrupted] { return flag->load(); });
  if (!input.ok()) return input.status();
  std::string all;
  while (true) {
    const absl::StatusOr<std::string> piece = (*input)->Read(64 * 1024);
    if (!piece.ok()) return piece.status();
    if (piece->empty()) return all;
    all += *piece;
    if (static_cast<int64_t>(all.size()) > kMaxTextBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(args.file, " has more than ", kMaxTextBytes, " bytes"));
    }
  }
}

}  // namespace

absl::Status RunHealth(const Cli& cli, const HealthArgs& args) {
  using Response = grpc::health::v1::HealthCheckResponse;
  const absl::StatusOr<Response> health = cli.client->CheckHealth(args.service);
  if (!health.ok()) return health.status();
  const std::string status = Response::ServingStatus_Name(health->status());
  absl::Status printed = cli.json ? PrintJson(*health) : Print(status + "\n");
  if (!printed.ok()) return printed;
  if (health->status() == Response::SERVING) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the server's health is ", status, ", wanted SERVING"));
}

absl::Status RunTokenize(const Cli& cli, const TextArgs& args) {
  absl::StatusOr<std::string> text = ReadAll(cli, args);
  if (!text.ok()) return text.status();
  v1::TokenizeRequest request;
  request.set_model(ResourceName("models/", args.model));
  request.set_text(*std::move(text));
  request.set_add_bos(args.add_bos);
  const absl::StatusOr<v1::TokenizeResponse> tokens =
      cli.client->Tokenize(request);
  if (!tokens.ok()) return tokens.status();
  if (cli.json) return PrintJson(*tokens);
  return Print(absl::StrJoin(tokens->tokens(), " ") + "\n");
}

absl::Status RunDetokenize(const Cli& cli, const TextArgs& args) {
  const absl::StatusOr<std::string> text = ReadAll(cli, args);
  if (!text.ok()) return text.status();
  const absl::StatusOr<std::vector<int32_t>> ids = ParseTokens(*text);
  if (!ids.ok()) return ids.status();
  v1::DetokenizeRequest request;
  request.set_model(ResourceName("models/", args.model));
  request.mutable_tokens()->Add(ids->begin(), ids->end());
  const absl::StatusOr<v1::DetokenizeResponse> answer =
      cli.client->Detokenize(request);
  if (!answer.ok()) return answer.status();
  return cli.json ? PrintJson(*answer) : Print(answer->text());
}

absl::Status RunCountTokens(const Cli& cli, const TextArgs& args) {
  absl::StatusOr<std::string> text = ReadAll(cli, args);
  if (!text.ok()) return text.status();
  v1::CountTokensRequest request;
  request.set_model(ResourceName("models/", args.model));
  request.set_text(*std::move(text));
  const absl::StatusOr<v1::CountTokensResponse> count =
      cli.client->CountTokens(request);
  if (!count.ok()) return count.status();
  if (cli.json) return PrintJson(*count);
  return Print(absl::StrCat(count->tokens(), "\n"));
}

}  // namespace mneme::client
