// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/limits.h"

#include <dnnl.h>
#include <fcntl.h>
#include <omp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/tensor/tensor.h"

namespace mneme::bench {
namespace {

double Seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Runs work(i) on `threads` threads at once; seconds until all are done.
double Together(int threads, const std::function<void(int)>& work) {
  const double start = Seconds();
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(work, i);
  work(0);
  for (std::thread& other : others) other.join();
  return Seconds() - start;
}

absl::Status Failed(const std::string& what) {
  return absl::ErrnoToStatus(errno, what);
}

absl::Status WriteAll(int file, const std::string& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = write(file, bytes.data() + done, bytes.size() - done);
    if (count < 0) return Failed("write");
    done += static_cast<size_t>(count);
  }
  return fdatasync(file) == 0 ? absl::OkStatus() : Failed("fdatasync");
}

// As states are: nothing that could be packed.
std::string Noise(int64_t bytes) {
  std::string noise(static_cast<size_t>(bytes), '\0');
  uint32_t state = 1;
  for (char& byte : noise) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<char>(state >> 24);
  }
  return noise;
}

}  // namespace

double BestSgemmFlops(int threads) {
  double best = 0;
  for (const int64_t n : {512, 768, 1024, 1536}) {
    const int64_t stride = PaddedStride(n);
    std::vector<std::vector<float>> matrices(3 * threads);
    for (auto& matrix : matrices) matrix.assign(n * stride, 0.5f);
    const int repeats = static_cast<int>(2e10 / (2.0 * n * n * n)) + 1;
    for (int round = 0; round < 4; ++round) {
      const double seconds = Together(threads, [&](int i) {
        omp_set_num_threads(1);
        for (int r = 0; r < repeats; ++r) {
          dnnl_sgemm('N', 'N', n, n, n, 1.0f, matrices[3 * i].data(), stride,
                     matrices[3 * i + 1].data(), stride, 0.0f,
                     matrices[3 * i + 2].data(), stride);
        }
      });
      best = std::max(best, 2.0 * n * n * n * repeats * threads / seconds);
    }
  }
  return best;
}

double ReadBandwidth(int threads) {
  constexpr int64_t kFloats = int64_t{128} << 20;
  AlignedBuffer buffer(kFloats * 4, Pages::kHuge);
  if (!buffer) return 0;
  auto* values = reinterpret_cast<float*>(buffer.data());
  std::fill_n(values, kFloats, 1.0f);
  std::vector<float> sums(threads * 16, 0.0f);
  double best = 0;
  for (int round = 0; round < 12; ++round) {
    const double seconds = Together(threads, [&](int i) {
      const int64_t share = kFloats / threads;
      const float* first = values + i * share;
      // Eight vectors of sums keep many loads in flight.
      float sum[8][16] = {};
      for (int64_t k = 0; k + 128 <= share; k += 128) {
#pragma GCC unroll 8
        for (int s = 0; s < 8; ++s) {
#pragma GCC unroll 16
          for (int j = 0; j < 16; ++j) sum[s][j] += first[k + s * 16 + j];
        }
      }
      for (const auto& stream : sum) {
        for (const float value : stream) sums[i * 16] += value;
      }
    });
    best = std::max(best, kFloats * 4 / seconds);
  }
  // Keeps the sums from being optimised away.
  return sums[0] == 0.5f ? 0 : best;
}

absl::StatusOr<PlainFiles> PlainFiles::Make(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const int log =
      open((folder + "/log").c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
  if (log < 0) return Failed(folder);
  return PlainFiles(folder, log);
}

PlainFiles::PlainFiles(PlainFiles&& other) noexcept
    : folder_(std::exchange(other.folder_, "")),
      log_(std::exchange(other.log_, -1)) {}

PlainFiles::~PlainFiles() {
  if (folder_.empty()) return;
  close(log_);
  std::error_code error;
  std::filesystem::remove_all(folder_, error);
}

absl::StatusOr<double> PlainFiles::AppendSynced(int64_t bytes) {
  const std::string contents = Noise(bytes);
  const double start = Seconds();
  MNEME_RETURN_IF_ERROR(WriteAll(log_, contents));
  return Seconds() - start;
}

absl::StatusOr<double> PlainFiles::WriteSynced(int64_t bytes) {
  const std::string contents = Noise(bytes);
  unlink(File().c_str());
  const double start = Seconds();
  const int file = open(File().c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600);
  if (file < 0) return Failed(File());
  const absl::Status written = WriteAll(file, contents);
  close(file);
  MNEME_RETURN_IF_ERROR(written);
  return Seconds() - start;
}

absl::StatusOr<double> PlainFiles::Read() const {
  const double start = Seconds();
  const int file = open(File().c_str(), O_RDONLY);
  if (file < 0) return Failed(File());
  const auto size = static_cast<size_t>(lseek(file, 0, SEEK_END));
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    close(file);
    return Failed("mmap");
  }
  auto* const contents = static_cast<char*>(memory);
  size_t done = 0;
  while (done < size) {
    const ssize_t count =
        pread(file, contents + done, size - done, static_cast<off_t>(done));
    if (count <= 0) break;
    done += static_cast<size_t>(count);
  }
  close(file);
  const double seconds = Seconds() - start;
  munmap(memory, size);
  if (done < size) return Failed("read");
  return seconds;
}

void DropCached(const std::string& folder) {
  std::error_code error;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(folder, error)) {
    if (!entry.is_regular_file(error)) continue;
    const int file = open(entry.path().c_str(), O_RDONLY);
    if (file < 0) continue;
    fdatasync(file);  // what is not on the disk yet stays
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    close(file);
  }
}

}  // namespace mneme::bench
