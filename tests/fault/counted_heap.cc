// SPDX-License-Identifier: Apache-2.0
#include "tests/fault/counted_heap.h"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<int64_t> live_bytes = 0;

// A test that runs out of memory ends.
void* Count(void* block) {
  if (block == nullptr) std::abort();
  live_bytes += static_cast<int64_t>(malloc_usable_size(block));
  return block;
}

void Free(void* block) {
  live_bytes -= static_cast<int64_t>(malloc_usable_size(block));
  std::free(block);
}

}  // namespace

// The forms for arrays call these.
void* operator new(size_t bytes) {
  return Count(std::malloc(bytes > 0 ? bytes : 1));
}
void* operator new(size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  return Count(std::malloc(bytes > 0 ? bytes : 1));
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  const auto align = static_cast<size_t>(alignment);
  return Count(std::aligned_alloc(align, (bytes + align - 1) / align * align));
}
void operator delete(void* block) noexcept { Free(block); }
void operator delete(void* block, size_t /*bytes*/) noexcept { Free(block); }
void operator delete(void* block, const std::nothrow_t& /*tag*/) noexcept {
  Free(block);
}
void operator delete(void* block, std::align_val_t /*align*/) noexcept {
  Free(block);
}
void operator delete(void* block, size_t /*bytes*/,
                     std::align_val_t /*align*/) noexcept {
  Free(block);
}

namespace mneme {

int64_t LiveHeapBytes() { return live_bytes; }

}  // namespace mneme
