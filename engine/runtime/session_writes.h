// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_SESSION_WRITES_H_
#define MNEME_ENGINE_RUNTIME_SESSION_WRITES_H_

#include <cstdint>
#include <deque>
#include <string>

#include "absl/types/optional.h"
#include "engine/store/store_types.h"

namespace mneme {

// Bytes of journal that a write adds.
int64_t AppendedBytes(const StoreWrite& write);

// What a session has written to its store: how far its journal goes, which
// writes are on their way, and what is there should they fail. The store takes
// a session's writes in their order, and refuses those behind one that failed.
// Not thread-safe.
class SessionWrites {
 public:
  // Behind a record of the journal.
  struct Place {
    uint64_t seq = 0;    // of the next record
    int64_t offset = 0;  // of the history
  };

  // `end`: of the journal that is there.
  explicit SessionWrites(Place end) : end_(end), durable_(end) {}

  // Behind all that was written, and behind what is known to be stored.
  const Place& end() const { return end_; }
  const Place& durable() const { return durable_; }
  // Nothing is on its way.
  bool idle() const { return on_way_.empty(); }
  // Bytes of journal that are.
  int64_t bytes() const { return bytes_; }

  // An empty write that continues those before, or, if they failed, first drops
  // what may be there of them.
  StoreWrite Next(const std::string& uid);
  // `record`, which is about to be changed and put, is what is stored.
  void NoteStored(const SessionRecord& record) {
    if (!stored_.has_value()) stored_ = record;
  }
  // The write is on its way; the journal will end at `end`. Returns its number.
  uint64_t Add(const StoreWrite& write, const Place& end);
  // It is stored. False, and nothing else, if it was given up before.
  bool Settle(uint64_t number);
  // Whether it was given up.
  bool GivenUp(uint64_t number) const { return number < first_; }
  // All that is on its way is given up, and the journal ends where it is known
  // to be stored. `record` becomes what is stored.
  void GiveUp(SessionRecord& record);

 private:
  struct OnWay {
    Place end;
    int64_t bytes = 0;
    absl::optional<SessionRecord> record;
  };

  Place end_;
  Place durable_;
  bool chained_ = false;  // the store has, or will have, all before end_
  std::deque<OnWay> on_way_;
  uint64_t first_ = 0;  // the number of the first of them
  int64_t bytes_ = 0;
  // While a record is on its way: the one before.
  absl::optional<SessionRecord> stored_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_SESSION_WRITES_H_
