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

// Two neighbours that merge, as long as what they merge to is this.
struct RankedPair {
  int32_t rank = 0;
  int32_t left = 0;
  int32_t id = 0;

  // The worse of two.
  bool operator<(const RankedPair& other) const {
    return rank > other.rank || (rank == other.rank && left > other.left);
  }
};

constexpr int32_t kNone = -1;

// The neighbours of each symbol that is still there.
struct Chain {
  explicit Chain(size_t symbols) : before(symbols), after(symbols) {
    const auto count = static_cast<int32_t>(symbols);
    for (int32_t i = 0; i < count; ++i) {
      before[i] = i - 1;
      after[i] = i + 1 < count ? i + 1 : kNone;
    }
  }
  // Takes the symbol behind `left` out.
  void TakeOut(int32_t left) {
    after[left] = after[after[left]];
    if (after[left] != kNone) before[after[left]] = left;
  }

  std::vector<int32_t> before;
  std::vector<int32_t> after;
};

template <typename Symbol>
void DropEmpty(std::vector<Symbol>& symbols) {
  size_t kept = 0;
  for (const Symbol& symbol : symbols) {
    if (symbol.bytes > 0) symbols[kept++] = symbol;
  }
  symbols.resize(kept);
}

}  // namespace

void MergeSymbols(
    absl::FunctionRef<absl::optional<float>(int32_t begin, int32_t bytes)>
        score,
    std::vector<BpeSymbol>& symbols) {
  const auto count = static_cast<int32_t>(symbols.size());
  Chain chain(symbols.size());
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
    chain.TakeOut(pair.left);
    add(chain.before[pair.left], pair.left);
    add(pair.left, chain.after[pair.left]);
  }
  DropEmpty(symbols);
}

void MergeByRank(
    absl::FunctionRef<const RankedMerge*(int32_t left, int32_t right)> merge,
    std::vector<RankedSymbol>& symbols) {
  const auto count = static_cast<int32_t>(symbols.size());
  Chain chain(symbols.size());
  std::priority_queue<RankedPair> pairs;
  const auto add = [&](int32_t left, int32_t right) {
    if (left == kNone || right == kNone) return;
    const RankedMerge* const found = merge(symbols[left].id, symbols[right].id);
    if (found != nullptr) pairs.push({found->rank, left, found->id});
  };
  for (int32_t i = 1; i < count; ++i) add(i - 1, i);

  while (!pairs.empty()) {
    const RankedPair pair = pairs.top();
    pairs.pop();
    RankedSymbol& left = symbols[pair.left];
    const int32_t next = chain.after[pair.left];
    if (left.bytes == 0 || next == kNone) continue;
    const RankedMerge* const now = merge(left.id, symbols[next].id);
    if (now == nullptr || now->id != pair.id) continue;
    left.id = pair.id;
    left.bytes += symbols[next].bytes;
    symbols[next].bytes = 0;
    chain.TakeOut(pair.left);
    add(chain.before[pair.left], pair.left);
    add(pair.left, chain.after[pair.left]);
  }
  DropEmpty(symbols);
}

}  // namespace mneme
