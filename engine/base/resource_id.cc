// SPDX-License-Identifier: Apache-2.0
#include "engine/base/resource_id.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace mneme {
namespace {

constexpr size_t kMaxIdBytes = 128;

}  // namespace

bool IsResourceId(const std::string& id) {
  if (id.empty() || id.size() > kMaxIdBytes) return false;
  if (!absl::ascii_isalnum(static_cast<unsigned char>(id[0]))) return false;
  return std::all_of(id.begin(), id.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
           c == '_' || c == '-';
  });
}

}  // namespace mneme
