// SPDX-License-Identifier: Apache-2.0
//
// The daemon's configuration file: whatever the text, reading ends, and what
// it accepts is printed as a file that says the same.
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/base/check.h"
#include "server/config.h"

namespace mneme::server {
namespace {

void ReadOne(const std::string& text) {
  const absl::StatusOr<Config> config = ParseConfig({}, text, "file");
  if (!config.ok()) {
    MNEME_CHECK(config.status().code() == absl::StatusCode::kInvalidArgument);
    MNEME_CHECK(!config.status().message().empty());
    return;
  }
  const absl::StatusOr<Config> again =
      ParseConfig({}, ToToml(*config), "again");
  MNEME_CHECK(again.ok());
  MNEME_CHECK(*again == *config);
}

}  // namespace
}  // namespace mneme::server

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mneme::server::ReadOne({reinterpret_cast<const char*>(data), size});
  return 0;
}
