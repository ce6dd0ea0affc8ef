// SPDX-License-Identifier: Apache-2.0
//
// What a session ought to be, as plain values: its history as what it was
// given and what it said, and beside it what a call may see or change.
#ifndef MNEME_TESTS_PROPERTY_API_MODEL_H_
#define MNEME_TESTS_PROPERTY_API_MODEL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/engine.h"
#include "tests/support/engine_driver.h"

namespace mneme {

// Something that became history. Texts are counted as histories count them.
struct ModelOp {
  enum class Kind { kInput, kGenerate, kScore, kCommitSegment };
  Kind kind = Kind::kInput;
  std::string input;              // appended, or a generation's prompt
  std::vector<std::string> said;  // bytes of each token
  std::vector<int32_t> tokens;    // of a generation, its ids
  GenerateOptions options;        // of a generation
  bool cut = false;               // a rollback left only the front of it

  int64_t bytes() const;
  std::string text() const;  // what was said
};

struct ModelHistory {
  std::vector<ModelOp> ops;
  // Of `ops`, those that came with the snapshot that it began from.
  size_t base_ops = 0;
  // Whether `ops` is known to be all that shaped the state.
  bool certain = true;

  std::string bytes() const;
  int64_t size() const;
  void AddInput(const std::string& input);
  // The bytes of a character of the text that is not whole yet.
  std::string CutCharacter() const;
  // The generation that a request id would attach to, or null.
  const ModelOp* Kept() const;
  // Whether the same can be done to an empty session.
  bool Repeatable() const;
  bool HasEmptyOpAt(int64_t at) const;
  // What is left up to `at` bytes; nothing if a token goes across that place.
  // `floor`: where the snapshot stands that it began from.
  absl::optional<ModelHistory> UpTo(int64_t at, int64_t floor) const;
};

// SHA-256 in hex.
std::string DigestOf(std::string_view bytes);

// Whether `text`, behind `cut` of a character, is UTF-8 up to its end.
bool FollowsAsUtf8(const std::string& cut, const std::string& text);

struct ModelSnapshot {
  ModelHistory history;
  std::string state_digest;
};

struct ModelWriter {
  std::unique_ptr<ProgressWaiter> waiter;  // outlives the stream
  std::unique_ptr<AppendStream> stream;

  void Close() {
    stream.reset();
    waiter.reset();
  }
};

struct ModelSession {
  std::string id;
  std::string uid;
  std::string model;
  SessionUnit unit = SessionUnit::kText;
  int64_t epoch = 1;
  int64_t revision = 0;
  ModelHistory history;
  int64_t floor = 0;  // bytes; nothing between 0 and this is kept
  std::map<std::string, ModelSnapshot> snapshots;
  std::map<std::string, std::string> labels;
  absl::Duration ttl;
  int64_t snapshot_interval_tokens = 0;
  bool pinned = false;
  std::string state_digest;  // empty: it has changed
  ModelWriter writer;        // null: there is none

  int64_t unit_bytes() const { return unit == SessionUnit::kText ? 1 : 4; }
  int64_t next_offset() const { return history.size() / unit_bytes(); }
  void Changed() { state_digest.clear(); }
};

}  // namespace mneme

#endif  // MNEME_TESTS_PROPERTY_API_MODEL_H_
