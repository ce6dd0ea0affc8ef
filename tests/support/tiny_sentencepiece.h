// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_SUPPORT_TINY_SENTENCEPIECE_H_
#define MNEME_TESTS_SUPPORT_TINY_SENTENCEPIECE_H_

#include <cstdint>
#include <string>

namespace mneme {

// Tokens of TinySentencePieceModel.
inline constexpr int64_t kTinyVocabSize = 320;

// The contents of a tokenizer.model of Llama 2's kind, small enough to be
// written by hand: <unk>, <s>, </s>, the 256 bytes, a space, the lower-case
// letters, and a few pieces that merge, among them runs of spaces and of "a".
std::string TinySentencePieceModel();

}  // namespace mneme

#endif  // MNEME_TESTS_SUPPORT_TINY_SENTENCEPIECE_H_
