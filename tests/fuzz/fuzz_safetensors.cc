// SPDX-License-Identifier: Apache-2.0
//
// The header of a weights file: whatever the bytes, parsing ends, and the
// tensors it yields share out the bytes behind the header.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/base/check.h"
#include "engine/model/safetensors.h"

namespace mneme {
namespace {

void ParseOne(absl::Span<const char> file) {
  const absl::StatusOr<TensorMap> tensors = ParseSafetensors(file);
  if (!tensors.ok()) {
    MNEME_CHECK(tensors.status().code() == absl::StatusCode::kInvalidArgument);
    MNEME_CHECK(!tensors.status().message().empty());
    return;
  }
  const char* end = file.data() + file.size();
  std::vector<bool> taken(file.size(), false);
  int64_t bytes = 0;
  for (const auto& [name, view] : *tensors) {
    const char* begin = static_cast<const char*>(view.data);
    MNEME_CHECK(begin >= file.data() + 8 && begin <= end);
    MNEME_CHECK(view.bytes() >= 0 && view.bytes() <= end - begin);
    for (int64_t i = 0; i < view.bytes(); ++i) {
      MNEME_CHECK(!taken[begin + i - file.data()]);
      taken[begin + i - file.data()] = true;
    }
    bytes += view.bytes();
  }
  MNEME_CHECK(bytes <= static_cast<int64_t>(file.size()) - 8);
}

}  // namespace
}  // namespace mneme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mneme::ParseOne({reinterpret_cast<const char*>(data), size});
  return 0;
}
