// SPDX-License-Identifier: Apache-2.0
#include "tests/text/sentencepiece_oracle.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <cstdio>
#include <cstdlib>

namespace mneme {
namespace {

void Check(const sentencepiece::util::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "sentencepiece: %s\n", status.ToString().c_str());
  std::abort();
}

class Lines final : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(const std::vector<std::string>& lines) : lines_(lines) {}
  bool done() const override { return at_ == lines_.size(); }
  void Next() override { ++at_; }
  const std::string& value() const override { return lines_[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& lines_;
  size_t at_ = 0;
};

}  // namespace

class SentencePieceOracle::Impl {
 public:
  sentencepiece::SentencePieceProcessor processor;
};

std::string SentencePieceOracle::Train(const std::vector<std::string>& lines,
                                       const std::string& flags) {
  std::string model;
  Lines iterator(lines);
  Check(sentencepiece::SentencePieceTrainer::Train(
      flags +  // of a flag that is there twice, the first counts
          " --model_type=bpe --normalization_rule_name=identity "
          "--remove_extra_whitespaces=false --split_digits=true "
          "--num_threads=1 --minloglevel=2 --max_sentence_length=100000",
      &iterator, &model));
  return model;
}

SentencePieceOracle::SentencePieceOracle(const std::string& model)
    : impl_(std::make_unique<Impl>()) {
  Check(impl_->processor.LoadFromSerializedProto(model));
}

SentencePieceOracle::~SentencePieceOracle() = default;

std::vector<int32_t> SentencePieceOracle::Encode(std::string_view text) const {
  std::vector<int> tokens;
  Check(impl_->processor.Encode(text, &tokens));
  return {tokens.begin(), tokens.end()};
}

std::string SentencePieceOracle::Decode(
    const std::vector<int32_t>& tokens) const {
  std::string text;
  Check(impl_->processor.Decode(std::vector<int>(tokens.begin(), tokens.end()),
                                &text));
  return text;
}

}  // namespace mneme
