// SPDX-License-Identifier: Apache-2.0
#include "engine/text/bpe.h"

#include <queue>

namespace mneme {
namespace {

// Two neighbours that make a piece, as long as both are what they were.
struct Pair {
  int32_t left = 0;
  int32_t right = 0;
  int32_t bytes = 0;
  float score = 0;

  // The worse of two.
  bool operator<(const Pair& other) const {
    return score < other.score || (score == other.score && left > other.left);
  }
};

}  // namespace

void MergeSymbols(
    absl::FunctionRef<absl::optional<float>(int32_t begin, int32_t bytes)>
        score,
    std::vector<BpeSymbol>& symbols) {
  constexpr int32_t kNone = -1;
  const auto count = static_cast<int32_t>(symbols.size());
  std::vector<int32_t> before(symbols.size());
  std::vector<int32_t> after(symbols.size());
  for (int32_t i = 0; i < count; ++i) {
    before[i] = i - 1;
    after[i] = i + 1 < count ? i + 1 : kNone;
  }

  std::priority_queue<Pair> pairs;
  const auto add = [&](int32_t left, int32_t right) {
    if (left == kNone || right == kNone) return;
    if (symbols[left].frozen || symbols[right].frozen) return;
    const int32_t bytes = symbols[left].bytes + symbols[right].bytes;
    const absl::optional<float> found = score(symbols[left].begin, bytes);
    if (found.has_value()) pairs.push({left, right, bytes, *found});
  };
  for (int32_t i = 1; i < count; ++i) add(i - 1, i);

  while (!pairs.empty()) {
    const Pair pair = pairs.top();
    pairs.pop();
    BpeSymbol& left = symbols[pair.left];
    BpeSymbol& right = symbols[pair.right];
    const bool stale = left.bytes == 0 || right.bytes == 0 ||
                       left.bytes + right.bytes != pair.bytes;
    if (stale) continue;
    left.bytes = pair.bytes;
    right.bytes = 0;
    after[pair.left] = after[pair.right];
    if (after[pair.right] != kNone) before[after[pair.right]] = pair.left;
    add(before[pair.left], pair.left);
    add(pair.left, after[pair.left]);
  }

  size_t kept = 0;
  for (const BpeSymbol& symbol : symbols) {
    if (symbol.bytes > 0) symbols[kept++] = symbol;
  }
  symbols.resize(kept);
}

}  // namespace mneme
