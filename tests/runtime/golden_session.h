// SPDX-License-Identifier: Apache-2.0
//
// The session that tests/golden/state/make_golden.py writes by hand.
#ifndef MNEME_TESTS_RUNTIME_GOLDEN_SESSION_H_
#define MNEME_TESTS_RUNTIME_GOLDEN_SESSION_H_

#include <memory>
#include <string>

#include "engine/base/errors.h"
#include "engine/base/files.h"
#include "engine/runtime/kept_reply_coding.h"
#include "engine/runtime/session_export.h"
#include "engine/runtime/session_snapshot.h"
#include "tests/support/golden_state.h"
#include "tests/support/status_matchers.h"

namespace mneme {

inline std::string GoldenFile(const std::string& name) {
  const absl::StatusOr<std::string> bytes =
      ReadSmallFile(std::string(MNEME_TEST_DATA) + "/state/" + name, 1 << 20);
  EXPECT_THAT(bytes, IsOk());
  return bytes.ok() ? *bytes : std::string();
}

// A tokenizer and a chat template, and no model behind them.
inline std::shared_ptr<const ServedModel> GoldenModel() {
  auto model = std::make_shared<ServedModel>();
  model->tokenizer = MakeByteTokenizer({});
  model->chat = *MakeChatTemplate("plain", {}, *model->tokenizer);
  return model;
}

inline History GoldenHistory() {
  History history(SessionUnit::kText);
  history.Add("Hello, w\xc3\xb6rld");
  return history;
}

inline InputQueue GoldenInput(const ServedModel* model) {
  InputQueue input(model, SessionUnit::kText);
  input.BeginTurn("user");
  input.Append("hi");
  return input;
}

inline GenerateEvent GoldenFinished() {
  return {.kind = GenerateEvent::Kind::kFinished,
          .status = WithReason(
              absl::CancelledError("the client went away"),
              {.reason = "READER_GONE", .metadata = {{"waited", "60s"}}}),
          .reason = FinishReason::kCancelled,
          .next_offset = 13,
          .position = 1031,
          .stop = "x",
          .stop_token = 65,
          .stats = {.prompt_tokens = 4,
                    .generated_tokens = 3,
                    .queue_time = absl::Nanoseconds(1),
                    .prefill_time = absl::Nanoseconds(2),
                    .decode_time = absl::Nanoseconds(3),
                    .time_to_first_token = absl::Nanoseconds(4),
                    .seed = 99}};
}

inline std::shared_ptr<Reply> GoldenReply(
    const std::shared_ptr<const ServedModel>& model) {
  auto reply = std::make_shared<Reply>(Reply::Setup{
      .model = model, .max_tokens = 5, .logprobs = true, .top_logprobs = 1});
  reply->Begin(3, 10);
  const LikelyToken likely[] = {{98, -0.25f}, {97, -0.25f}};
  reply->Add({97, -0.5f}, {&likely[0], 1}, 1, 1);
  reply->Add({98, -1.5f}, {&likely[1], 1}, 2, 2);
  reply->Add({99, -2.0f}, {}, 2, 2);
  reply->Finish(GoldenFinished(), 2, 2);
  return reply;
}

inline KeptReply GoldenKept(const std::shared_ptr<const ServedModel>& model) {
  return {.request_id = "request-1",
          .request_digest = "digest-1",
          .had_prompt = true,
          .reply = GoldenReply(model),
          .task = {}};
}

inline SnapshotHeader GoldenSnapshotHeader() {
  std::string fingerprint;
  for (int i = 0; i < 4; ++i) fingerprint += "0123456789abcdef";
  return {.model_fingerprint = fingerprint,
          .arithmetic_level = "avx2",
          .unit = SessionUnit::kText,
          .offset = 13,
          .position = 1031};
}

inline std::string GoldenSnapshot() {
  const auto model = GoldenModel();
  std::string history, input, reply, state;
  GoldenHistory().Encode(history);
  GoldenInput(model.get()).Encode(input);
  EncodeKeptReply(GoldenKept(model), reply);
  GoldenState()->Encode(state);
  return EncodeSnapshot(SessionSnapshot{.header = GoldenSnapshotHeader(),
                                        .history = history,
                                        .input = input,
                                        .reply = reply,
                                        .state = state});
}

inline ExportHeader GoldenExportHeader() {
  const SnapshotHeader snapshot = GoldenSnapshotHeader();
  return {.session = "notes",
          .uid = "00112233445566778899aabbccddeeff",
          .model = "tiny",
          .snapshot = snapshot,
          .state_digest =
              GoldenState()->Digest(snapshot.model_fingerprint, "user: hi"),
          .history_digest = GoldenHistory().Digest(),
          .labels = {{"colour", "blue"}, {"kind", ""}},
          .ttl = absl::Hours(1),
          .creation_time = absl::FromUnixSeconds(1'700'000'000)};
}

inline std::string WholeFile(const ExportFile& file) {
  std::string bytes;
  while (true) {
    const std::string_view more =
        file.Read(static_cast<int64_t>(bytes.size()), 1000);
    if (more.empty()) return bytes;
    bytes += more;
  }
}

}  // namespace mneme

#endif  // MNEME_TESTS_RUNTIME_GOLDEN_SESSION_H_
