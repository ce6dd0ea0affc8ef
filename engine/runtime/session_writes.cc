// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/session_writes.h"

#include <utility>

namespace mneme {

int64_t AppendedBytes(const StoreWrite& write) {
  int64_t bytes = 0;
  for (const JournalEntry& entry : write.append) {
    bytes += static_cast<int64_t>(entry.payload.size());
  }
  return bytes;
}

StoreWrite SessionWrites::Next(const std::string& uid) {
  StoreWrite write{.uid = uid};
  if (!std::exchange(chained_, true)) write.drop_journal_from = end_.seq;
  return write;
}

uint64_t SessionWrites::Add(const StoreWrite& write, const Place& end) {
  const int64_t bytes = AppendedBytes(write);
  on_way_.push_back({.end = end, .bytes = bytes, .record = write.record});
  bytes_ += bytes;
  end_ = end;
  return first_ + on_way_.size() - 1;
}

bool SessionWrites::Settle(uint64_t number) {
  if (GivenUp(number)) return false;
  OnWay& write = on_way_.front();
  durable_ = write.end;
  bytes_ -= write.bytes;
  if (write.record.has_value()) stored_ = std::move(write.record);
  on_way_.pop_front();
  ++first_;
  if (on_way_.empty()) stored_.reset();
  return true;
}

void SessionWrites::GiveUp(SessionRecord& record) {
  first_ += on_way_.size();
  on_way_.clear();
  bytes_ = 0;
  end_ = durable_;
  chained_ = false;
  if (stored_.has_value()) record = *std::exchange(stored_, absl::nullopt);
}

}  // namespace mneme
