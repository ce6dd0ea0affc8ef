// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_BENCH_LIMITS_H_
#define MNEME_TESTS_BENCH_LIMITS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mneme::bench {

// What the machine can do: the figures that everything else is a share of.
// Those of its cores and its memory are measured for about a second on
// `threads` threads.

// Best rate of oneDNN's f32 matrix product over square sizes 512 to 1536,
// each thread with its own product, in FLOP/s.
double BestSgemmFlops(int threads);

// Streaming reads of 512 MiB, far more than any cache holds, in bytes/s:
// the best of several passes.
double ReadBandwidth(int threads);

// What the disk can do with plain files, whose folder goes with this.
class PlainFiles {
 public:
  // Makes the folder. Nothing else may be in it.
  static absl::StatusOr<PlainFiles> Make(const std::string& folder);
  PlainFiles(PlainFiles&& other) noexcept;
  PlainFiles& operator=(PlainFiles&&) = delete;
  ~PlainFiles();

  // Seconds of one write of `bytes` to the end of a log, and of its fdatasync.
  absl::StatusOr<double> AppendSynced(int64_t bytes);
  // Seconds of writing a new file of `bytes`, and of its fdatasync.
  absl::StatusOr<double> WriteSynced(int64_t bytes);
  // Seconds of reading that file into new memory.
  absl::StatusOr<double> Read() const;

 private:
  PlainFiles(std::string folder, int log)
      : folder_(std::move(folder)), log_(log) {}
  std::string File() const { return folder_ + "/file"; }

  std::string folder_;  // empty: moved from
  int log_ = -1;
};

// Puts what the files below `folder` hold out of the page cache, as far as the
// system does that when asked.
void DropCached(const std::string& folder);

}  // namespace mneme::bench

#endif  // MNEME_TESTS_BENCH_LIMITS_H_
