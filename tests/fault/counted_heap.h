// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_FAULT_COUNTED_HEAP_H_
#define MNEME_TESTS_FAULT_COUNTED_HEAP_H_

#include <cstdint>

namespace mneme {

// Bytes that `new` gave and `delete` has not taken back, of the whole program:
// the same under every sanitizer, which an allocator's own figures are not.
int64_t LiveHeapBytes();

}  // namespace mneme

#endif  // MNEME_TESTS_FAULT_COUNTED_HEAP_H_
