// SPDX-License-Identifier: Apache-2.0
//
// The parts of a session, decoded from any bytes, by a model of a tokenizer and
// a chat template alone.
#ifndef MNEME_TESTS_FUZZ_SESSION_VALUES_H_
#define MNEME_TESTS_FUZZ_SESSION_VALUES_H_

#include <memory>
#include <string>
#include <string_view>

#include "engine/base/check.h"
#include "engine/runtime/kept_reply_coding.h"
#include "engine/runtime/session_snapshot.h"
#include "engine/text/chat_template.h"
#include "tests/support/golden_state.h"

namespace mneme {

inline void CheckRefusal(const absl::Status& status) {
  MNEME_CHECK(status.code() == absl::StatusCode::kDataLoss ||
              status.code() == absl::StatusCode::kFailedPrecondition);
  MNEME_CHECK(!status.message().empty());
}

inline std::shared_ptr<const ServedModel> FuzzedModel() {
  static const auto* const model = [] {
    auto made = std::make_shared<ServedModel>();
    made->tokenizer = MakeByteTokenizer({.vocab_size = 260, .eos = {258}});
    made->chat = *MakeChatTemplate("tokens", {.user = 256, .assistant = 257},
                                   *made->tokenizer);
    return new std::shared_ptr<const ServedModel>(std::move(made));
  }();
  return *model;
}

inline void DecodeFuzzedState(std::string_view bytes) {
  const auto state = *SessionState::Create(GoldenLayout());
  const absl::Status status = state->Decode(bytes);
  if (!status.ok()) return CheckRefusal(status);
  std::string again;
  state->Encode(again);
  MNEME_CHECK(again == bytes);
  MNEME_CHECK(!state->Digest("").empty());
  std::vector<int32_t> recent;
  state->CopyRecent(SessionState::kRecentTokens, recent);
  if (state->tail_room() > 0) state->PushToken(1);
}

inline void DecodeFuzzedHistory(std::string_view bytes) {
  absl::StatusOr<History> history = History::Decode(bytes);
  if (!history.ok()) return CheckRefusal(history.status());
  std::string again;
  history->Encode(again);
  MNEME_CHECK(again == bytes);
  history->Add("1234");
  MNEME_CHECK(history->Compare(
                  history->next_offset() - 4 / history->unit_bytes(), "1234") ==
              History::Match::kSame);
}

inline void DecodeFuzzedInput(std::string_view bytes, SessionUnit unit) {
  InputQueue input(FuzzedModel().get(), unit);
  const absl::Status status = input.Decode(bytes);
  if (!status.ok()) return CheckRefusal(status);
  std::string again;
  input.Encode(again);
  MNEME_CHECK(again == bytes);
  const int64_t size = input.size();
  int64_t taken = 0;
  while (const auto token = input.Next(/*begins=*/false, /*ends=*/true)) {
    taken += static_cast<int64_t>(token->bytes.size());
  }
  MNEME_CHECK(taken <= size && input.idle());
}

inline void DecodeFuzzedReply(std::string_view bytes, SessionUnit unit) {
  const absl::StatusOr<KeptReply> kept =
      DecodeKeptReply(bytes, FuzzedModel(), unit);
  if (!kept.ok()) return CheckRefusal(kept.status());
  std::string again;
  EncodeKeptReply(*kept, again);
  MNEME_CHECK(again == bytes);
  struct Deaf final : StreamListener {
    void OnProgress() override {}
  } listener;
  const auto reader = kept->reply->Attach(0, &listener);
  bool resume = false;
  while (reader.ok() && kept->reply->Poll(**reader, &resume).has_value()) {
  }
}

}  // namespace mneme

#endif  // MNEME_TESTS_FUZZ_SESSION_VALUES_H_
