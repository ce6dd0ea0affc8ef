// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_WORD_TOKENIZER_H_
#define MNEME_ENGINE_TEXT_WORD_TOKENIZER_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/text/tokenizer.h"

namespace mneme {

// Transformer-XL's vocabulary of words (Dai et al. 2019, arXiv:1901.02860v3;
// vocabulary.py of the code that goes with it). `file`, the contents of a
// vocab.txt, has a word a line, in the order of their ids; what a line has
// behind the word, counts, is passed over. "<eos>" is among them, which is the
// end of a line, and "<unk>" or "<UNK>", which is every word that is not.
//
// Text is cut at white space, and a word comes out once its end is seen. White
// space that no word follows stays, also at the end of a text. A word or a run
// of white space that is longer than Tokenizer::kMaxPendingBytes is cut there.
// Departures:
// - "<eos>" in text is a word that is not in the vocabulary.
// - A carriage return is white space, and ends no line.
// - Decode puts a space before a word, as the lines of WikiText have it, and
//   gives a line's end for "<eos>".
// - Words are not taken apart further: text has to be as the model's own was,
//   for WikiText-103 with punctuation apart and "1 @,@ 234" for 1,234.
//
// INVALID_ARGUMENT naming the line, for a file with no word on one, one twice,
// without the two above, or with more words than `options.vocab_size`.
absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeWordTokenizer(
    std::string_view file, const VocabularyOptions& options);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_WORD_TOKENIZER_H_
