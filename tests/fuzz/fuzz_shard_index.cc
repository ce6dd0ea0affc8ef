// SPDX-License-Identifier: Apache-2.0
//
// The index of a sharded checkpoint: whatever the text, parsing ends, and no
// file that it accepts lies outside the folder.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/base/check.h"
#include "engine/model/shard_index.h"

namespace mneme {
namespace {

void ParseOne(std::string_view text) {
  const absl::StatusOr<ShardIndex> index = ParseShardIndex(text);
  if (!index.ok()) {
    MNEME_CHECK(index.status().code() == absl::StatusCode::kInvalidArgument);
    MNEME_CHECK(!index.status().message().empty());
    return;
  }
  MNEME_CHECK(!index->empty());
  for (const auto& [tensor, file] : *index) {
    MNEME_CHECK(!file.empty() && file.size() <= 255);
    MNEME_CHECK(file.find('/') == std::string::npos);
    MNEME_CHECK(file.find('\0') == std::string::npos);
    MNEME_CHECK(file != "." && file != "..");
  }
}

}  // namespace
}  // namespace mneme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mneme::ParseOne({reinterpret_cast<const char*>(data), size});
  return 0;
}
