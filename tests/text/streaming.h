// SPDX-License-Identifier: Apache-2.0
//
// Ways to have a tokenizer encode a text.
#ifndef MNEME_TESTS_TEXT_STREAMING_H_
#define MNEME_TESTS_TEXT_STREAMING_H_

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/tokenizer.h"
#include "gtest/gtest.h"

namespace mneme {

inline std::vector<int32_t> Ids(const std::vector<TextToken>& tokens) {
  std::vector<int32_t> ids;
  ids.reserve(tokens.size());
  for (const TextToken& token : tokens) ids.push_back(token.id);
  return ids;
}

inline std::vector<TextToken> Whole(const Tokenizer& tokenizer,
                                    std::string_view text) {
  std::vector<TextToken> tokens;
  const int64_t taken = tokenizer.EncodeFront(
      text, {.begins = true, .ends = true}, SIZE_MAX, tokens);
  EXPECT_EQ(taken, static_cast<int64_t>(text.size()));
  return tokens;
}

// As a session does it: pieces come in, tokens are taken a few at a time.
inline std::vector<TextToken> Streamed(const Tokenizer& tokenizer,
                                       std::string_view text,
                                       std::mt19937& random,
                                       size_t longest_piece) {
  std::vector<TextToken> tokens;
  std::string pending;
  bool begins = true;
  const auto take = [&](bool ends) {
    while (true) {
      std::vector<TextToken> some;
      const int64_t taken = tokenizer.EncodeFront(pending, {begins, ends},
                                                  1 + random() % 64, some);
      if (some.empty()) return;
      begins = false;
      pending.erase(0, taken);
      tokens.insert(tokens.end(), some.begin(), some.end());
    }
  };
  for (size_t at = 0; at < text.size();) {
    const size_t bytes =
        std::min<size_t>(1 + random() % longest_piece, text.size() - at);
    pending += text.substr(at, bytes);
    at += bytes;
    take(false);
    EXPECT_LE(pending.size(), Tokenizer::kMaxPendingBytes + 3);
  }
  take(true);
  EXPECT_EQ(pending, "");
  return tokens;
}

}  // namespace mneme

#endif  // MNEME_TESTS_TEXT_STREAMING_H_
