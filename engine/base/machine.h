// SPDX-License-Identifier: Apache-2.0
//
// What this process may use of the machine it runs on.
#ifndef MNEME_ENGINE_BASE_MACHINE_H_
#define MNEME_ENGINE_BASE_MACHINE_H_

#include <cstdint>
#include <string>

namespace mneme {

// Cores: those of the affinity mask, or fewer if the cgroup's CPU quota is
// worth fewer whole ones. At least 1.
int CoreCount();

// Bytes of memory: the machine's, or fewer if the cgroup limits them.
int64_t MemoryBytes();

// Whole cores that a cgroup v2 "cpu.max" line ("QUOTA PERIOD" or "max PERIOD")
// grants, at least 1; 0 if it sets no limit or is not such a line.
int CoresOfQuota(const std::string& line);

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_MACHINE_H_
