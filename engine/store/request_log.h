// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_REQUEST_LOG_H_
#define MNEME_ENGINE_STORE_REQUEST_LOG_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/store/kv_store.h"
#include "engine/store/record_coding.h"

namespace mneme {

// Which requests a store remembers, and which of them to drop. Their age is
// counted by the store's own age: the time for which it was open, which no
// jump of the wall clock changes. Not thread-safe.
class RequestLog {
 public:
  struct Limits {
    absl::Duration keep;
    int64_t max_bytes = 0;
  };

  // `clock` outlives it.
  RequestLog(Limits limits, const Clock* clock);

  // Takes note of what `kv` holds. Damaged requests count as put just now.
  absl::Status Load(const KvStore& kv);

  // What a batch changes. Nothing is changed until Apply.
  struct Plan {
    std::vector<RememberedRequest> added;
    std::vector<uint64_t> dropped;  // set by Fill, as the next
    absl::Duration store_age;
  };
  // Appends to `batch` what carries out `plan`, and drops what is too old or
  // too much.
  void Fill(Plan& plan, KvStore::Batch& batch) const;
  // The batch is written.
  void Apply(const Plan& plan);

  // For a store about to be closed.
  void FillAge(KvStore::Batch& batch) const;

 private:
  struct Entry {
    std::string id;
    int64_t bytes = 0;
    absl::Duration store_age;
  };

  absl::Duration StoreAge() const;
  void Insert(uint64_t number, Entry entry);
  void Drop(uint64_t number);

  const Limits limits_;
  const Clock* const clock_;
  const absl::Duration opened_;
  absl::Duration age_at_open_;
  absl::Duration age_written_;
  std::map<uint64_t, Entry> entries_;  // by number: the oldest first
  absl::flat_hash_map<std::string, uint64_t> numbers_;  // by id
  int64_t bytes_ = 0;
  uint64_t next_ = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_REQUEST_LOG_H_
