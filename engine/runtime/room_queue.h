// SPDX-License-Identifier: Apache-2.0
//
// Memory for what nobody can be put out for at once: sessions leave it only
// when what they wrote is stored, and a stream's is in use until the pass that
// ends it is over. So a refusal waits a while for such to come free.
#ifndef MNEME_ENGINE_RUNTIME_ROOM_QUEUE_H_
#define MNEME_ENGINE_RUNTIME_ROOM_QUEUE_H_

#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/base/byte_budget.h"
#include "engine/base/clock.h"
#include "engine/runtime/residency.h"

namespace mneme {

// Thread-safe.
class RoomQueue {
 public:
  using Done = std::function<void(absl::StatusOr<ByteBudget::Reservation>)>;

  // Both outlive it.
  RoomQueue(Residency* residency, const Clock* clock);

  // Reserves as Residency::Reserve does, again and again for up to kPatience;
  // those that came first have the first try. `done` is called by the queue's
  // thread, or at once after Stop.
  void Ask(int64_t bytes, const char* what, Done done);

  // What still waits has its last try. To be called once.
  void Stop();

 private:
  static constexpr absl::Duration kPatience = absl::Seconds(1);
  static constexpr absl::Duration kRetry = absl::Milliseconds(2);

  struct Asked {
    int64_t bytes = 0;
    const char* what = nullptr;
    absl::Duration deadline;  // on the monotonic clock
    Done done;
  };

  void Loop();

  Residency* const residency_;
  const Clock* const clock_;
  absl::Mutex mutex_;
  std::vector<Asked> asked_ ABSL_GUARDED_BY(mutex_);  // since the last look
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_ROOM_QUEUE_H_
