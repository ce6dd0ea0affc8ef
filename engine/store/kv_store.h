// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_KV_STORE_H_
#define MNEME_ENGINE_STORE_KV_STORE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"

namespace mneme {

// Values by key, in byte order, in spaces of their own: what a KvSessionStore
// is built on. Thread-safe. Errors: UNAVAILABLE (STORE_UNAVAILABLE) if it
// cannot be read or written; DATA_LOSS if it is damaged.
class KvStore {
 public:
  // What is put in kBlobs is large, put once, and found by its key alone: there
  // are no ranges of it. It has methods of its own, and no batch mixes it with
  // other spaces.
  enum class Space { kMeta, kJournal, kBlobs };
  static constexpr int kSpaces = 3;

  // Changes, in their order.
  struct Change {
    enum class Kind { kPut, kDelete, kDeleteRange };
    Kind kind = Kind::kPut;
    Space space = Space::kMeta;
    std::string key;
    std::string value;  // kDeleteRange: the first key behind the range
  };
  using Batch = std::vector<Change>;

  virtual ~KvStore() = default;

  // Makes all changes or none. With `sync` they, and all that were made before
  // without, survive a loss of power once it has returned OK. After an error
  // none of the batch is seen; a later call tries again to write.
  virtual absl::Status Write(const Batch& batch, bool sync) = 0;

  // Null if there is none.
  virtual absl::StatusOr<absl::optional<std::string>> Get(
      Space space, std::string_view key) const = 0;
  // What is in kBlobs under a key, in `value`, whose memory is used again.
  // False if there is nothing.
  virtual absl::StatusOr<bool> GetBlob(std::string_view key,
                                       std::string& value) const = 0;
  // Calls `read` with the entries of [begin, end) in order, until it returns
  // false. It may read this store, but not write to it.
  virtual absl::Status Scan(
      Space space, std::string_view begin, std::string_view end,
      absl::FunctionRef<bool(std::string_view key, std::string_view value)>
          read) const = 0;
  // The last entry of [begin, end): its key and value.
  struct Entry {
    std::string key;
    std::string value;
  };
  virtual absl::StatusOr<absl::optional<Entry>> Last(
      Space space, std::string_view begin, std::string_view end) const = 0;

  // What was put in kBlobs under `key`, and is on its way since, survives a
  // loss of power once this has returned OK. After an error it is not there.
  virtual absl::Status SyncBlob(std::string_view key) = 0;
  // Tells of the keys of kBlobs, in any order.
  virtual absl::Status ForEachBlob(
      absl::FunctionRef<void(std::string_view key)> tell) const = 0;

  // Rewrites all so that nothing of what was deleted is left.
  virtual absl::Status Compact() = 0;
  // Of the disk, or of memory.
  virtual int64_t used_bytes() const = 0;
  // Whether a loss of power leaves what was synced.
  virtual bool durable() const = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_KV_STORE_H_
