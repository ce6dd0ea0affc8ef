// SPDX-License-Identifier: Apache-2.0
#include "engine/base/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "absl/strings/numbers.h"

namespace mneme {

int CoresOfQuota(const std::string& line) {
  std::istringstream in(line);
  std::string quota;
  int64_t granted = 0;
  int64_t period = 0;
  if (!(in >> quota >> period) || period <= 0) return 0;
  if (!absl::SimpleAtoi(quota, &granted) || granted <= 0) return 0;
  return static_cast<int>(
      std::clamp<int64_t>(granted / period, 1, CPU_SETSIZE));
}

int CoreCount() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  std::ifstream in("/sys/fs/cgroup/cpu.max");
  std::string line;
  if (std::getline(in, line)) {
    const int granted = CoresOfQuota(line);
    if (granted > 0) cores = std::min(cores, granted);
  }
  return std::max(1, cores);
}

int64_t MemoryBytes() {
  int64_t bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) *
                  static_cast<int64_t>(sysconf(_SC_PAGE_SIZE));
  for (const char* path : {"/sys/fs/cgroup/memory.max",
                           "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream in(path);
    std::string text;
    int64_t limit = 0;
    if (in >> text && absl::SimpleAtoi(text, &limit) && limit > 0) {
      bytes = std::min(bytes, limit);
    }
  }
  return bytes;
}

}  // namespace mneme
