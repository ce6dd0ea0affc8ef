// SPDX-License-Identifier: Apache-2.0
//
// What the records of a journal say. In their order they are all that a
// session's history was given, and all that its state depends on.
#ifndef MNEME_ENGINE_STORE_JOURNAL_RECORD_H_
#define MNEME_ENGINE_STORE_JOURNAL_RECORD_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

namespace mneme {

// Input that was appended.
struct InputRecord {
  std::string role;  // empty: of the turn that is open, or nobody's
  bool end_of_turn = false;
  std::string bytes;  // as a history counts them

  bool operator==(const InputRecord&) const = default;
};

// That output was wanted, after a prompt.
struct AskRecord {
  enum class Kind : uint8_t { kGenerate = 1, kScore = 2, kCommitSegment = 3 };
  Kind kind = Kind::kGenerate;
  int64_t position = 0;  // tokens of the history before the prompt
  std::string prompt;    // bytes as a history counts them
  std::string prompt_role;
  bool begins_reply = false;  // see Prompt::asks
  std::string request_id;
  std::string request_digest;
  std::string options;  // as the runtime spells them

  bool operator==(const AskRecord&) const = default;
};

// How what an Ask began came to its end.
struct EndRecord {
  uint8_t reason = 0;  // as the runtime counts them
  int32_t status_code = 0;
  std::string message;
  // Tokens in the parts of the state then.
  int64_t computed_tokens = 0;

  bool operator==(const EndRecord&) const = default;
};

// Tokens that an Ask's work made history: said by the model, or scored.
struct TakenToken {
  int32_t id = 0;
  std::string bytes;  // that a history counts for it

  bool operator==(const TakenToken&) const = default;
};
struct SaidRecord {
  std::vector<TakenToken> tokens;
  absl::optional<EndRecord> end;  // nothing follows of that Ask

  bool operator==(const SaidRecord&) const = default;
};

struct JournalRecord {
  absl::Time time;
  int64_t offset = 0;      // of the history before it, in the session's unit
  int64_t end_offset = 0;  // behind it
  std::variant<InputRecord, AskRecord, SaidRecord> body;

  bool operator==(const JournalRecord&) const = default;
};

std::string EncodeJournalRecord(const JournalRecord& record);
// DATA_LOSS naming what is wrong.
absl::StatusOr<JournalRecord> DecodeJournalRecord(std::string_view bytes);

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_JOURNAL_RECORD_H_
