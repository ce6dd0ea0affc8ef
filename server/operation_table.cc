// SPDX-License-Identifier: Apache-2.0
#include "server/operation_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "server/convert.h"
#include "server/names.h"
#include "server/status.h"

namespace mneme::server {
namespace {

constexpr absl::Duration kKeep = absl::Hours(24);

}  // namespace

void OperationTable::Finish() {
  StopWaiting();
  std::map<std::string, Entry> entries;
  {
    absl::MutexLock lock(&mu_);
    finished_ = true;
    for (auto& [id, entry] : entries_) entry.cancelled = true;
    auto none_runs = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return running_ == 0;
    };
    mu_.Await(absl::Condition(&none_runs));
    entries = std::move(entries_);
    entries_.clear();
  }
  for (auto& [id, entry] : entries) entry.thread.join();
}

absl::StatusOr<v1::Operation> OperationTable::Start(const std::string& method,
                                                    const std::string& target,
                                                    Work work) {
  std::vector<std::thread> ended;
  v1::Operation operation;
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return DrainingError();
    ended = DropOld();
    if (running_ >= kMaxRunning) {
      return WithReason(absl::ResourceExhaustedError(
                            absl::StrCat(running_, " operations run already")),
                        {.reason = "QUEUE_FULL", .metadata = {}});
    }
    ++running_;
    const absl::Time now = clock_->Now();
    // Two in one microsecond differ all the same.
    last_id_ = std::max(absl::ToUnixMicros(now), last_id_ + 1);
    const std::string id = absl::StrCat(absl::Hex(last_id_, absl::kZeroPad16));
    operation.set_name(OperationName(id));
    operation.set_method(method);
    operation.set_target(target);
    *operation.mutable_create_time() = ToTimestamp(now);
    Entry& entry = entries_[id];
    entry.operation = operation;
    entry.thread =
        std::thread([this, id, work = std::move(work)] { Run(id, work); });
  }
  for (std::thread& thread : ended) thread.join();
  return operation;
}

void OperationTable::Run(const std::string& id, const Work& work) {
  std::string target;
  {
    absl::MutexLock lock(&mu_);
    target = entries_.at(id).operation.target();
  }
  std::unique_ptr<google::protobuf::Message> response;
  const absl::Status status = work(
      [this, &id] {
        absl::MutexLock lock(&mu_);
        return entries_.at(id).cancelled;
      },
      response);
  const grpc::Status outcome = ToGrpcStatus(status, target);

  std::vector<std::function<void()>> waiting;
  {
    absl::MutexLock lock(&mu_);
    Entry& entry = entries_.at(id);
    v1::Operation& operation = entry.operation;
    if (status.ok()) {
      operation.mutable_response()->PackFrom(*response);
    } else {
      operation.mutable_error()->ParseFromString(outcome.error_details());
    }
    operation.set_done(true);
    operation.set_progress(1);
    entry.end_time = clock_->Now();
    *operation.mutable_end_time() = ToTimestamp(entry.end_time);
    waiting = std::move(entry.waiting);
  }
  for (const auto& done : waiting) done();
  absl::MutexLock lock(&mu_);
  --running_;
}

std::vector<std::thread> OperationTable::DropOld() {
  std::vector<std::thread> threads;
  const absl::Time old = clock_->Now() - kKeep;
  size_t ended = entries_.size() - running_;
  for (auto it = entries_.begin(); it != entries_.end();) {
    Entry& entry = it->second;
    if (!entry.operation.done() ||
        (ended <= kMaxEnded && entry.end_time > old)) {
      ++it;
      continue;
    }
    threads.push_back(std::move(entry.thread));
    it = entries_.erase(it);
    --ended;
  }
  return threads;
}

absl::Status OperationTable::NotThere(const std::string& id) const {
  return WithReason(
      absl::NotFoundError(absl::StrCat("operation ", id, " is not known")),
      {.reason = "OPERATION_NOT_FOUND", .metadata = {}});
}

absl::StatusOr<v1::Operation> OperationTable::Get(const std::string& id) {
  absl::MutexLock lock(&mu_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return NotThere(id);
  return found->second.operation;
}

absl::StatusOr<v1::Operation> OperationTable::Cancel(const std::string& id) {
  absl::MutexLock lock(&mu_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return NotThere(id);
  found->second.cancelled = true;
  return found->second.operation;
}

std::vector<v1::Operation> OperationTable::List(const std::string& before,
                                                int64_t limit) {
  absl::MutexLock lock(&mu_);
  std::vector<v1::Operation> page;
  auto it = before.empty() ? entries_.end() : entries_.lower_bound(before);
  while (it != entries_.begin() && static_cast<int64_t>(page.size()) < limit) {
    page.push_back((--it)->second.operation);
  }
  return page;
}

void OperationTable::WhenDone(const std::string& id,
                              std::function<void()> done) {
  {
    absl::MutexLock lock(&mu_);
    const auto found = entries_.find(id);
    if (found != entries_.end() && !found->second.operation.done() &&
        !waiting_stopped_) {
      found->second.waiting.push_back(std::move(done));
      return;
    }
  }
  done();
}

void OperationTable::StopWaiting() {
  std::vector<std::function<void()>> waiting;
  {
    absl::MutexLock lock(&mu_);
    waiting_stopped_ = true;
    for (auto& [id, entry] : entries_) {
      for (auto& done : entry.waiting) waiting.push_back(std::move(done));
      entry.waiting.clear();
    }
  }
  for (const auto& done : waiting) done();
}

}  // namespace mneme::server
