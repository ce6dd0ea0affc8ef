// SPDX-License-Identifier: Apache-2.0
//
// SentencePiece itself, which trains the models that the tests use and says
// what their tokens should be. Behind a header of its own because the
// library's does not go with Abseil's, and only in programs without Protocol
// Buffers because it brings an older copy of those.
#ifndef MNEME_TESTS_TEXT_SENTENCEPIECE_ORACLE_H_
#define MNEME_TESTS_TEXT_SENTENCEPIECE_ORACLE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mneme {

class SentencePieceOracle {
 public:
  // Trains on `lines`: BPE without normalisation, as Llama 2's model, with
  // `flags` of spm_train on top. Returns the contents of the model file.
  static std::string Train(const std::vector<std::string>& lines,
                           const std::string& flags);

  // Aborts if the library refuses the model.
  explicit SentencePieceOracle(const std::string& model);
  ~SentencePieceOracle();

  std::vector<int32_t> Encode(std::string_view text) const;
  std::string Decode(const std::vector<int32_t>& tokens) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mneme

#endif  // MNEME_TESTS_TEXT_SENTENCEPIECE_ORACLE_H_
