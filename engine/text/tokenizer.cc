// SPDX-License-Identifier: Apache-2.0
#include "engine/text/tokenizer.h"

#include <algorithm>
#include <utility>

namespace mneme {
namespace {

constexpr int32_t kBytes = 256;

class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(VocabularyOptions options)
      : options_(std::move(options)), sayable_(options_.vocab_size, 0) {
    std::fill_n(sayable_.begin(), kBytes, 1);
    for (const int32_t token : options_.eos) sayable_[token] = 1;
  }

  std::string_view kind() const override { return "bytes"; }
  bool utf8() const override { return false; }
  std::string_view prefix() const override { return ""; }

  int64_t EncodeFront(std::string_view text, TextPlace /*place*/, size_t enough,
                      std::vector<TextToken>& tokens) const override {
    if (tokens.size() >= enough) return 0;
    const std::string_view front = text.substr(0, enough - tokens.size());
    for (const char c : front) tokens.push_back({static_cast<uint8_t>(c), 1});
    return static_cast<int64_t>(front.size());
  }

  std::string Decode(int32_t token) const override {
    if (token < 0 || token >= kBytes) return "";
    return std::string(1, static_cast<char>(token));
  }

  absl::optional<int32_t> bos() const override { return options_.bos; }
  absl::Span<const int32_t> eos() const override { return options_.eos; }
  absl::Span<const uint8_t> sayable() const override { return sayable_; }

 private:
  const VocabularyOptions options_;
  std::vector<uint8_t> sayable_;
};

}  // namespace

std::unique_ptr<const Tokenizer> MakeByteTokenizer(VocabularyOptions options) {
  return std::make_unique<ByteTokenizer>(std::move(options));
}

}  // namespace mneme
