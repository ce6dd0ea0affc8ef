// SPDX-License-Identifier: Apache-2.0
//
// Slow work that outlives the call that asked for it.
#ifndef MNEME_SERVER_OPERATION_TABLE_H_
#define MNEME_SERVER_OPERATION_TABLE_H_

#include <google/protobuf/message.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "mneme/v1/operations.pb.h"

namespace mneme::server {

// Runs operations, each on a thread of its own, and keeps those that ended for
// a day, the latest kMaxEnded. Ids rise with the time of their making.
// Thread-safe.
class OperationTable {
 public:
  static constexpr size_t kMaxRunning = 16;
  static constexpr size_t kMaxEnded = 1000;

  explicit OperationTable(const Clock* clock) : clock_(clock) {}
  ~OperationTable() { Finish(); }
  OperationTable(const OperationTable&) = delete;
  OperationTable& operator=(const OperationTable&) = delete;

  // Does the work, and fills `response` if it succeeds. `cancelled()` tells
  // whether someone asked it to stop.
  using Work = std::function<absl::Status(
      const std::function<bool()>& cancelled,
      std::unique_ptr<google::protobuf::Message>& response)>;

  // `target` is the resource it is about. RESOURCE_EXHAUSTED (QUEUE_FULL) if
  // too many run.
  absl::StatusOr<v1::Operation> Start(const std::string& method,
                                      const std::string& target, Work work);

  // NOT_FOUND (OPERATION_NOT_FOUND).
  absl::StatusOr<v1::Operation> Get(const std::string& id);
  absl::StatusOr<v1::Operation> Cancel(const std::string& id);

  // At most `limit`, the newest first, older than id `before` unless that is
  // empty.
  std::vector<v1::Operation> List(const std::string& before, int64_t limit);

  // Calls `done` once: when the operation has ended or is unknown, or after
  // StopWaiting; at once or from another thread.
  void WhenDone(const std::string& id, std::function<void()> done);
  // Nobody waits any longer, now and later.
  void StopWaiting();
  // Asks what runs to stop, and waits for it. Nothing can be started any more.
  void Finish();

 private:
  struct Entry {
    v1::Operation operation;
    absl::Time end_time;  // once done
    bool cancelled = false;
    std::vector<std::function<void()>> waiting;  // until done
    std::thread thread;
  };

  void Run(const std::string& id, const Work& work);
  absl::Status NotThere(const std::string& id) const;
  // Forgets what ended long ago; gives what there is to join.
  std::vector<std::thread> DropOld() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Clock* const clock_;
  absl::Mutex mu_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mu_);  // by id
  int64_t last_id_ ABSL_GUARDED_BY(mu_) = 0;
  size_t running_ ABSL_GUARDED_BY(mu_) = 0;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool waiting_stopped_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_OPERATION_TABLE_H_
