// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_MEMORY_MEMORY_KV_STORE_H_
#define MNEME_ENGINE_STORE_MEMORY_MEMORY_KV_STORE_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/store/kv_store.h"

namespace mneme {

// Ends with the process. Cannot fail.
class MemoryKvStore final : public KvStore {
 public:
  absl::Status Write(const Batch& batch, bool sync) override;
  absl::StatusOr<absl::optional<std::string>> Get(
      Space space, std::string_view key) const override;
  absl::Status Scan(
      Space space, std::string_view begin, std::string_view end,
      absl::FunctionRef<bool(std::string_view key, std::string_view value)>
          read) const override;
  absl::StatusOr<absl::optional<Entry>> Last(
      Space space, std::string_view begin, std::string_view end) const override;
  absl::StatusOr<bool> GetBlob(std::string_view key,
                               std::string& value) const override;
  absl::Status SyncBlob(std::string_view /*key*/) override {
    return absl::OkStatus();
  }
  absl::Status ForEachBlob(
      absl::FunctionRef<void(std::string_view key)> tell) const override;
  absl::Status Compact() override { return absl::OkStatus(); }
  int64_t used_bytes() const override;
  bool durable() const override { return false; }

 private:
  using Map = std::map<std::string, std::string, std::less<>>;

  void Erase(Map& map, Map::iterator begin, Map::iterator end)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  std::array<Map, kSpaces> maps_ ABSL_GUARDED_BY(mutex_);
  int64_t used_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_MEMORY_MEMORY_KV_STORE_H_
