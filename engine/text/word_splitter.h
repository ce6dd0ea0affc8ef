// SPDX-License-Identifier: Apache-2.0
//
// Cuts text into the words that a model then makes tokens of, one by one: the
// pre-tokenizers of tokenizer.json.
//
// A text that comes in piece by piece is cut as far as no continuation can
// change it. And what is left has to be cut as if the rest were still there,
// though the cutting begins anew. It may begin anew between two words of a
// pattern, since patterns do not look back; but where words of one
// pattern are cut by the next, only inside of what the first has not matched.
#ifndef MNEME_ENGINE_TEXT_WORD_SPLITTER_H_
#define MNEME_ENGINE_TEXT_WORD_SPLITTER_H_

#include <cstddef>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/text_normalizer.h"

namespace mneme {

struct Word {
  size_t begin = 0;
  size_t end = 0;
  bool open = false;       // it may go on after `end`
  bool cuttable = false;   // cutting may begin anew anywhere inside
  bool cut_after = false;  // cutting may begin anew behind it
};

class WordSplitter {
 public:
  // One way to cut a word.
  class Stage {
   public:
    virtual ~Stage() = default;
    // Appends the parts of `text`, without gaps, from its beginning to where
    // they are certain: to the end if it is not open. `begin`, `end`, `open`
    // and `cuttable` are set.
    virtual void Split(std::string_view text, bool open,
                       std::vector<Word>& parts) const = 0;
    // Whether all its parts are cuttable.
    virtual bool local() const = 0;
  };

  // What a pre-tokenizer makes of text: `normalizer` gets what it changes,
  // `byte_level` whether tokens spell bytes, and the splitter the stages.
  // INVALID_ARGUMENT naming a component that is not served, the found and the
  // wanted.
  static absl::StatusOr<WordSplitter> Parse(const nlohmann::json& pre_tokenizer,
                                            TextNormalizer& normalizer,
                                            bool& byte_level);

  // Whether cutting may begin anew anywhere.
  bool local() const;

  // The words of `text`, without gaps, from its beginning to where they are
  // certain: to the end if it is not open.
  std::vector<Word> Split(std::string_view text, bool open) const;

 private:
  void SplitFrom(size_t stage, std::string_view text, const Word& word,
                 std::vector<Word>& words) const;

  std::vector<std::unique_ptr<const Stage>> stages_;
};

// The words between and around those that match `pattern`, each by itself.
// Errors as Regex::Compile.
absl::StatusOr<std::unique_ptr<const WordSplitter::Stage>> MakePatternStage(
    std::string_view pattern);

// What becomes of a character that separates words.
enum class Separator { kAlone, kEndsWord, kBeginsWord, kWithItsLike };
std::unique_ptr<const WordSplitter::Stage> MakeSeparatorStage(
    char32_t character, Separator separator);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_WORD_SPLITTER_H_
