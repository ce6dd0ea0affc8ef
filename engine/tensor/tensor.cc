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
  const int64_t alignment = pages == Pages::kHuge ? kHugePage : kAlignment;
  const int64_t wanted = bytes + kAlignment;
  const int64_t padded = (wanted + alignment - 1) / alignment * alignment;
  data_.reset(static_cast<char*>(std::aligned_alloc(alignment, padded)));
  if (pages == Pages::kHuge && data_ != nullptr) {
    madvise(data_.get(), padded, MADV_HUGEPAGE);
  }
}

void AlignedBuffer::Free::operator()(char* data) const { std::free(data); }

}  // namespace mneme
