// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_LATENCY_H_
#define MNEME_CLIENT_LATENCY_H_

#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace mneme::client {

// Times that were measured, kept one by one. Not thread-safe.
class Latencies {
 public:
  void Add(absl::Duration latency) {
    milliseconds_.push_back(absl::ToDoubleMilliseconds(latency));
  }
  void Add(const Latencies& other) {
    milliseconds_.insert(milliseconds_.end(), other.milliseconds_.begin(),
                         other.milliseconds_.end());
  }

  int64_t count() const { return static_cast<int64_t>(milliseconds_.size()); }

  // The smallest measured time that at least `share` (above 0 to 1) of all do
  // not exceed: the nearest rank, in milliseconds; 0 if none was measured.
  double Percentile(double share) const;

 private:
  std::vector<double> milliseconds_;
};

}  // namespace mneme::client

#endif  // MNEME_CLIENT_LATENCY_H_
