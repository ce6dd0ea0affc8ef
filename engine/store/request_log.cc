// SPDX-License-Identifier: Apache-2.0
#include "engine/store/request_log.h"

#include <algorithm>
#include <set>

#include "engine/base/status_macros.h"
#include "engine/store/store_keys.h"

namespace mneme {
namespace {

constexpr KvStore::Space kMeta = KvStore::Space::kMeta;
// How often the store's age is written; what a crash takes from it.
constexpr absl::Duration kAgeStep = absl::Minutes(1);
// What a request takes beside its contents.
constexpr int64_t kEntryBytes = 128;

int64_t BytesOf(const RememberedRequest& request) {
  return kEntryBytes +
         static_cast<int64_t>(request.id.size() + request.digest.size() +
                              request.reply.size());
}

void PutAge(absl::Duration age, KvStore::Batch& batch) {
  PutSealed(kMeta, kStoreAgeKey,
            EncodeNumber(static_cast<uint64_t>(absl::ToInt64Nanoseconds(age))),
            batch);
}

}  // namespace

RequestLog::RequestLog(Limits limits, const Clock* clock)
    : limits_(limits), clock_(clock), opened_(clock->Monotonic()) {}

absl::Duration RequestLog::StoreAge() const {
  return age_at_open_ + (clock_->Monotonic() - opened_);
}

void RequestLog::Insert(uint64_t number, Entry entry) {
  bytes_ += entry.bytes;
  numbers_[entry.id] = number;
  entries_[number] = std::move(entry);
}

void RequestLog::Drop(uint64_t number) {
  const auto entry = entries_.find(number);
  if (entry == entries_.end()) return;
  bytes_ -= entry->second.bytes;
  const auto by_id = numbers_.find(entry->second.id);
  if (by_id != numbers_.end() && by_id->second == number) numbers_.erase(by_id);
  entries_.erase(entry);
}

absl::Status RequestLog::Load(const KvStore& kv) {
  const absl::StatusOr<absl::optional<std::string>> age =
      GetSealed(kv, kMeta, kStoreAgeKey);
  // A damaged age is as good as none: the requests' own still order them.
  if (!age.ok() && !absl::IsDataLoss(age.status())) return age.status();
  if (age.ok() && age->has_value()) {
    MNEME_ASSIGN_OR_RETURN(const uint64_t nanoseconds, DecodeNumber(**age));
    age_at_open_ = absl::Nanoseconds(static_cast<int64_t>(nanoseconds));
  }
  std::vector<uint64_t> damaged;
  absl::Status wrong;
  MNEME_RETURN_IF_ERROR(kv.Scan(
      kMeta, kRequestPrefix, BehindPrefix(kRequestPrefix),
      [&](std::string_view key, std::string_view value) {
        const absl::StatusOr<uint64_t> number = NumberAtEnd(key);
        if (!number.ok()) {
          wrong = number.status();
          return false;
        }
        next_ = *number + 1;
        const absl::StatusOr<std::string_view> payload =
            Unseal(kMeta, key, value);
        absl::StatusOr<AgedRequest> aged =
            payload.ok() ? DecodeAgedRequest(*payload) : payload.status();
        if (!aged.ok()) {
          damaged.push_back(*number);
          return true;
        }
        age_at_open_ = std::max(age_at_open_, aged->store_age);
        Insert(*number,
               {aged->request.id, BytesOf(aged->request), aged->store_age});
        return true;
      }));
  for (const uint64_t number : damaged) {
    Insert(number, {"", kEntryBytes, age_at_open_});
  }
  age_written_ = age_at_open_;
  return wrong;
}

void RequestLog::Fill(Plan& plan, KvStore::Batch& batch) const {
  plan.store_age = StoreAge();
  std::set<uint64_t> dropped;
  int64_t bytes = bytes_;
  const auto drop = [&](uint64_t number, const Entry& entry) {
    if (dropped.insert(number).second) bytes -= entry.bytes;
  };
  for (const RememberedRequest& request : plan.added) {
    bytes += BytesOf(request);
    const auto before = numbers_.find(request.id);
    if (before != numbers_.end()) {
      drop(before->second, entries_.at(before->second));
    }
  }
  for (const auto& [number, entry] : entries_) {
    const bool old = plan.store_age - entry.store_age >= limits_.keep;
    if (!old && bytes <= limits_.max_bytes) break;
    drop(number, entry);
  }
  plan.dropped.assign(dropped.begin(), dropped.end());
  for (const uint64_t number : plan.dropped) {
    DeleteKey(kMeta, RequestKey(number), batch);
  }
  uint64_t number = next_;
  for (const RememberedRequest& request : plan.added) {
    PutSealed(kMeta, RequestKey(number++),
              EncodeAgedRequest({plan.store_age, request}), batch);
  }
  if (plan.store_age - age_written_ >= kAgeStep) {
    PutAge(plan.store_age, batch);
  }
}

void RequestLog::Apply(const Plan& plan) {
  for (const uint64_t number : plan.dropped) Drop(number);
  for (const RememberedRequest& request : plan.added) {
    Insert(next_++, {request.id, BytesOf(request), plan.store_age});
  }
  if (plan.store_age - age_written_ >= kAgeStep) {
    age_written_ = plan.store_age;
  }
}

void RequestLog::FillAge(KvStore::Batch& batch) const {
  PutAge(StoreAge(), batch);
}

}  // namespace mneme
