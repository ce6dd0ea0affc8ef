// SPDX-License-Identifier: Apache-2.0
//
// Requests that may be sent twice and are carried out once. A client that
// does not know whether its request arrived sends it again under the same id
// and gets the first answer.
#ifndef MNEME_SERVER_REQUEST_ID_TABLE_H_
#define MNEME_SERVER_REQUEST_ID_TABLE_H_

#include <google/protobuf/message.h>

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"

namespace mneme::server {

// Remembers the answers of requests that succeeded: each for `keep`, the
// newest `max_bytes` of them. Thread-safe.
class RequestIdTable {
 public:
  struct Options {
    absl::Duration keep = absl::Hours(24);
    int64_t max_bytes = 8 << 20;
    const Clock* clock = Clock::Real();
  };
  explicit RequestIdTable(const Options& options) : options_(options) {}

  // Calls `work`, which fills `reply`, unless a request of this id succeeded
  // before: then `reply` is that answer. An empty id always works. Requests
  // with ids are carried out one at a time, so that of two that come at once
  // the second sees the first one's answer.
  // INVALID_ARGUMENT for an id of more than 64 characters, or one that came
  // with another method or body (REQUEST_ID_REUSED); else as `work` says.
  absl::Status Once(const std::string& id, const std::string& method,
                    const google::protobuf::Message& request,
                    google::protobuf::Message* reply,
                    absl::FunctionRef<absl::Status()> work);

 private:
  struct Entry {
    std::string request_digest;
    std::string reply;
  };
  struct Age {
    absl::Duration when;  // by the monotonic clock
    std::string id;
  };

  void DropOld() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void DropOldest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  absl::Mutex mu_;
  // Every entry has one age and every age one entry; the oldest is in front.
  std::unordered_map<std::string, Entry> entries_ ABSL_GUARDED_BY(mu_);
  std::deque<Age> ages_ ABSL_GUARDED_BY(mu_);
  int64_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_REQUEST_ID_TABLE_H_
