// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor/tensor.h"

#include <sys/mman.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace mneme {

std::string ShapeString(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ","), "]");
}

int64_t ElementCount(absl::Span<const int64_t> shape) {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  return count;
}

AlignedBuffer::AlignedBuffer(int64_t bytes, Pages pages) : bytes_(bytes) {
  constexpr int64_t kHugePage = int64_t{2} << 20;
  // A huge page that is not filled would take memory all the same.
  const int64_t huge =
      pages == Pages::kHuge ? bytes / kHugePage * kHugePage : 0;
  const int64_t alignment = huge > 0 ? kHugePage : kAlignment;
  const int64_t wanted = bytes + kAlignment;
  const int64_t padded = (wanted + alignment - 1) / alignment * alignment;
  data_.reset(static_cast<char*>(std::aligned_alloc(alignment, padded)));
  if (huge > 0 && data_ != nullptr) {
    madvise(data_.get(), huge, MADV_HUGEPAGE);
  }
}

AlignedBuffer AlignedBuffer::Zeroed(int64_t bytes) {
  AlignedBuffer buffer;
  buffer.bytes_ = bytes;
  auto* const allocated = static_cast<char*>(
      std::calloc(static_cast<size_t>(bytes + 2 * kAlignment), 1));
  if (allocated == nullptr) return buffer;
  const auto past =
      static_cast<int64_t>(reinterpret_cast<uintptr_t>(allocated) % kAlignment);
  buffer.data_ = std::unique_ptr<char, Free>(
      allocated + (kAlignment - past) % kAlignment, Free(allocated));
  return buffer;
}

void AlignedBuffer::Free::operator()(char* data) const {
  std::free(allocated != nullptr ? allocated : data);
}

}  // namespace mneme
