// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_TEXT_NORMALIZER_H_
#define MNEME_ENGINE_TEXT_TEXT_NORMALIZER_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mneme {

// A text as tokens spell it, and where its bytes come from.
struct SpelledText {
  std::string text;
  // [text.size() + 1] For each byte, and for the end, where in the original
  // begins what it stands for. Never falls.
  std::vector<int32_t> origin;
  // [text.size() + 1] 1 where the original can be cut at that origin: either
  // side is then spelled as it is here, wherever the other is.
  std::vector<uint8_t> cut;
};

// What is known of a section: text between two added tokens, or between one
// and an end of the text.
struct SectionPlace {
  bool begins = false;       // it begins here; else some of it came before
  bool begins_text = false;  // and so does the text
  bool open = false;         // it goes on in a way that is not known
};

// Respells text before it is cut into words: the normalizers of
// tokenizer.json, and what its pre-tokenizers change. Immutable.
class TextNormalizer {
 public:
  struct Step {
    enum class Kind {
      kPrepend,             // `content`, to every section
      kPrependUnlessThere,  // likewise, to one that begins otherwise
      kPrependToText,       // likewise, to the first section
      kReplace,             // `character` by `content`
      kForm,                // a Unicode normalization form, `form`
      kLowercase,
    };
    Kind kind = Kind::kReplace;
    std::string content;
    char32_t character = 0;
    // ICU's UNormalizer2, never freed; null but for kForm
    const void* form = nullptr;
  };

  // Adds the steps of "normalizer". INVALID_ARGUMENT naming a component that
  // is not served, the found and the wanted.
  absl::Status AddSteps(const nlohmann::json& normalizer);
  void AddStep(Step step) { steps_.push_back(std::move(step)); }

  bool empty() const { return steps_.empty(); }
  // Whether the beginning of a section is spelled otherwise than its middle.
  bool prepends() const;

  // Spells the front of `text`, or all of it if it is not open: what an open
  // text might still change is left out.
  SpelledText Spell(std::string_view text, SectionPlace place) const;

 private:
  std::vector<Step> steps_;
  size_t growth_ = 1;  // most bytes that replacements make of a character
};

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_TEXT_NORMALIZER_H_
