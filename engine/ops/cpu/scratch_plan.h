// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_CPU_SCRATCH_PLAN_H_
#define MNEME_ENGINE_OPS_CPU_SCRATCH_PLAN_H_

#include <cstdint>

namespace mneme::cpu {

inline int64_t RoundToLine(int64_t floats) { return (floats + 15) / 16 * 16; }

// Places in a kernel's scratch, in floats from its start, each on a cache line
// of its own.
struct ScratchPlan {
  int64_t floats = 0;  // in all

  int64_t Take(int64_t count) {
    const int64_t first = floats;
    floats += RoundToLine(count);
    return first;
  }
};

}  // namespace mneme::cpu

#endif  // MNEME_ENGINE_OPS_CPU_SCRATCH_PLAN_H_
