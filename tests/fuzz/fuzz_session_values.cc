// SPDX-License-Identifier: Apache-2.0
//
// The values that make up a session: whatever the bytes, each is refused or
// decoded to what gives the same bytes again, and can be used.
//
// Input: a letter that says which value, and its bytes.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/check.h"
#include "engine/runtime/generate_options_coding.h"
#include "tests/fuzz/session_values.h"

namespace mneme {
namespace {

void DecodeOptions(std::string_view bytes, SessionUnit unit) {
  const auto options = DecodeGenerateOptions(bytes, unit, /*vocab_size=*/256);
  if (!options.ok()) return CheckRefusal(options.status());
  std::string again;
  EncodeGenerateOptions(*options, *options->sampling.seed, again);
  MNEME_CHECK(again == bytes);
}

void DecodeOne(char which, std::string_view bytes) {
  switch (which) {
    case 's':
      return DecodeFuzzedState(bytes);
    case 'h':
      return DecodeFuzzedHistory(bytes);
    case 'i':
      return DecodeFuzzedInput(bytes, SessionUnit::kText);
    case 'I':
      return DecodeFuzzedInput(bytes, SessionUnit::kTokens);
    case 'r':
      return DecodeFuzzedReply(bytes, SessionUnit::kText);
    case 'R':
      return DecodeFuzzedReply(bytes, SessionUnit::kTokens);
    case 'o':
      return DecodeOptions(bytes, SessionUnit::kText);
    case 'O':
      return DecodeOptions(bytes, SessionUnit::kTokens);
  }
}

}  // namespace
}  // namespace mneme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  mneme::DecodeOne(bytes[0], bytes.substr(1));
  return 0;
}
