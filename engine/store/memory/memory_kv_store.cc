// SPDX-License-Identifier: Apache-2.0
#include "engine/store/memory/memory_kv_store.h"

#include <iterator>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"

namespace mneme {
namespace {

// What an entry takes beside its bytes.
constexpr int64_t kEntryBytes = 128;

int64_t BytesOf(const std::string& key, const std::string& value) {
  return kEntryBytes + static_cast<int64_t>(key.size() + value.size());
}

}  // namespace

void MemoryKvStore::Erase(Map& map, Map::iterator begin, Map::iterator end) {
  for (auto entry = begin; entry != end; ++entry) {
    used_bytes_ -= BytesOf(entry->first, entry->second);
  }
  map.erase(begin, end);
}

absl::Status MemoryKvStore::Write(const Batch& batch, bool /*sync*/) {
  const absl::MutexLock lock(&mutex_);
  for (const Change& change : batch) {
    Map& map = maps_[static_cast<size_t>(change.space)];
    const auto begin = map.lower_bound(change.key);
    if (change.kind == Change::Kind::kDeleteRange) {
      if (change.key < change.value) {
        Erase(map, begin, map.lower_bound(change.value));
      }
      continue;
    }
    if (begin != map.end() && begin->first == change.key) {
      Erase(map, begin, std::next(begin));
    }
    if (change.kind == Change::Kind::kPut) {
      map.emplace(change.key, change.value);
      used_bytes_ += BytesOf(change.key, change.value);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<absl::optional<std::string>> MemoryKvStore::Get(
    Space space, std::string_view key) const {
  const absl::MutexLock lock(&mutex_);
  const Map& map = maps_[static_cast<size_t>(space)];
  const auto found = map.find(key);
  if (found == map.end()) return absl::optional<std::string>();
  return absl::optional<std::string>(found->second);
}

absl::StatusOr<bool> MemoryKvStore::GetBlob(std::string_view key,
                                            std::string& value) const {
  MNEME_ASSIGN_OR_RETURN(absl::optional<std::string> found,
                         Get(Space::kBlobs, key));
  if (found.has_value()) value = *std::move(found);
  return found.has_value();
}

// `read` may call this store, so each entry is copied out of the lock.
absl::Status MemoryKvStore::Scan(
    Space space, std::string_view begin, std::string_view end,
    absl::FunctionRef<bool(std::string_view key, std::string_view value)> read)
    const {
  std::string from(begin);
  while (true) {
    Entry entry;
    {
      const absl::MutexLock lock(&mutex_);
      const Map& map = maps_[static_cast<size_t>(space)];
      const auto found = map.lower_bound(from);
      if (found == map.end() || found->first >= end) return absl::OkStatus();
      entry = {found->first, found->second};
    }
    if (!read(entry.key, entry.value)) return absl::OkStatus();
    from = std::move(entry.key);
    from.push_back('\0');  // the next key there can be
  }
}

absl::StatusOr<absl::optional<KvStore::Entry>> MemoryKvStore::Last(
    Space space, std::string_view begin, std::string_view end) const {
  const absl::MutexLock lock(&mutex_);
  const Map& map = maps_[static_cast<size_t>(space)];
  const auto behind = map.lower_bound(end);
  if (behind == map.begin()) return absl::optional<Entry>();
  const auto last = std::prev(behind);
  if (last->first < begin) return absl::optional<Entry>();
  return absl::optional<Entry>({last->first, last->second});
}

// `tell` may take locks of its own, so the keys are copied out of this one.
absl::Status MemoryKvStore::ForEachBlob(
    absl::FunctionRef<void(std::string_view key)> tell) const {
  std::vector<std::string> keys;
  {
    const absl::MutexLock lock(&mutex_);
    for (const auto& [key, value] : maps_[static_cast<size_t>(Space::kBlobs)]) {
      keys.push_back(key);
    }
  }
  for (const std::string& key : keys) tell(key);
  return absl::OkStatus();
}

int64_t MemoryKvStore::used_bytes() const {
  const absl::MutexLock lock(&mutex_);
  return used_bytes_;
}

}  // namespace mneme
