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
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/engine.h"

namespace mneme::server {

// SHA-256 of a request: equal requests to a method have equal digests.
std::string RequestDigest(const std::string& method,
                          const google::protobuf::Message& request);

// Remembers the answers of requests that succeeded: each for `keep`, the
// newest `max_bytes` of them. Thread-safe. Shared, because work may end after
// its server.
class RequestIdTable : public std::enable_shared_from_this<RequestIdTable> {
 public:
  struct Options {
    absl::Duration keep = absl::Hours(24);
    int64_t max_bytes = 8 << 20;
    const Clock* clock = Clock::Real();
  };
  explicit RequestIdTable(const Options& options) : options_(options) {}

  // Takes in what was answered before this process began, the oldest first.
  void Restore(std::vector<AnsweredRequest> answered);

  using Done = std::function<void(const absl::Status&)>;
  using Work = std::function<void(Done)>;

  // Has `work` done, which fills `reply` and calls what it is given once, from
  // any thread, unless a request of this id succeeded before: then `reply` is
  // that answer. Of two that come at once the second waits for the first one's
  // outcome and shares it. An empty id always works. `done` is called once;
  // `reply` lives until then.
  // INVALID_ARGUMENT for an id of more than 64 characters, or one that came
  // with another method or body (REQUEST_ID_REUSED); else as `work` says.
  void Once(const std::string& id, const std::string& method,
            const google::protobuf::Message& request,
            google::protobuf::Message* reply, const Work& work, Done done);

 private:
  struct Waiting {
    google::protobuf::Message* reply;
    Done done;
  };
  struct Entry {
    std::string request_digest;
    bool answered = false;
    std::string reply;             // once answered
    std::vector<Waiting> waiting;  // until then
  };
  struct Age {
    absl::Duration when;  // by the monotonic clock
    std::string id;
  };

  // The work of `id` is done; tells who waits.
  void Finish(const std::string& id, const absl::Status& status,
              const google::protobuf::Message& reply);
  void Answer(const std::string& id, std::string reply, absl::Duration when)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void DropOld() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void DropOldest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  absl::Mutex mu_;
  // Every answered entry has one age, every age one such entry; the oldest is
  // in front.
  std::unordered_map<std::string, Entry> entries_ ABSL_GUARDED_BY(mu_);
  std::deque<Age> ages_ ABSL_GUARDED_BY(mu_);
  int64_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_REQUEST_ID_TABLE_H_
