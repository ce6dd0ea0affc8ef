// SPDX-License-Identifier: Apache-2.0
#include "engine/base/files.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace mneme {

absl::StatusOr<std::string> ReadSmallFile(const std::string& path,
                                          int64_t max_bytes) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    return absl::NotFoundError(absl::StrCat("cannot open ", path));
  }
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("cannot open ", path, ": ", error.message()));
  }
  if (!std::filesystem::is_regular_file(status)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": want a regular file"));
  }
  const auto bytes =
      static_cast<int64_t>(std::filesystem::file_size(path, error));
  if (error || bytes > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", bytes, " bytes, want at most ", max_bytes));
  }
  std::string text(static_cast<size_t>(bytes), '\0');
  std::ifstream in(path, std::ios::binary);
  if (!in.read(text.data(), bytes)) {
    return absl::UnavailableError(absl::StrCat("cannot read ", path));
  }
  return text;
}

}  // namespace mneme
