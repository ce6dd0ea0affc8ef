// SPDX-License-Identifier: Apache-2.0
#include "engine/text/tokenizer.h"

#include <algorithm>
#include <utility>

namespace mneme {
namespace {

constexpr int32_t kBytes = 256;

class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(ByteTokenizerOptions options)
      : options_(std::move(options)), sayable_(options_.vocab_size, 0) {
    std::fill_n(sayable_.begin(), kBytes, 1);
    for (const int32_t token : options_.eos) sayable_[token] = 1;
  }

  std::string_view kind() const override { return "bytes"; }

  void Encode(std::string_view text,
              std::vector<int32_t>& tokens) const override {
    tokens.reserve(tokens.size() + text.size());
    for (const char c : text) tokens.push_back(static_cast<uint8_t>(c));
  }

  std::string Decode(int32_t token) const override {
    if (token < 0 || token >= kBytes) return "";
    return std::string(1, static_cast<char>(token));
  }

  absl::optional<int32_t> bos() const override { return options_.bos; }
  absl::Span<const int32_t> eos() const override { return options_.eos; }
  absl::Span<const uint8_t> sayable() const override { return sayable_; }

 private:
  const ByteTokenizerOptions options_;
  std::vector<uint8_t> sayable_;
};

}  // namespace

std::unique_ptr<const Tokenizer> MakeByteTokenizer(
    ByteTokenizerOptions options) {
  return std::make_unique<ByteTokenizer>(std::move(options));
}

}  // namespace mneme
