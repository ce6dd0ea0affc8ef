// SPDX-License-Identifier: Apache-2.0
//
// What a model remembers, declared: every layer says which parts its state
// has and how each part changes, and everything that handles states (memory,
// commit, copy, digest) works from that.
#ifndef MNEME_ENGINE_STATE_STATE_SPEC_H_
#define MNEME_ENGINE_STATE_STATE_SPEC_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace mneme {

enum class PartKind {
  // Always `rows` rows, replaced as a whole: inner weights, a compressive
  // memory, a convolution window.
  kRewritten,
  // Zero to `rows` rows that grow one by one and start over: the factors of
  // an open mini-batch, the keys and values of an open segment.
  kAppended,
  // The rows of the last `rows` tokens, one each: keys and values of a window.
  // Units write the rows of their tokens beyond them, so nothing is copied.
  kRing,
};

struct PartSpec {
  std::string name;  // unique in its layer
  PartKind kind = PartKind::kRewritten;
  int64_t rows = 0;
  int64_t row_floats = 0;
  // Of an appended part: whether it does once it is full. Otherwise it stays.
  bool starts_over = true;

  bool operator==(const PartSpec&) const = default;
};

using LayerSpec = std::vector<PartSpec>;

struct StateSpec {
  std::vector<LayerSpec> layers;
  int64_t hidden_floats = 0;  // of the last token's output, kept beside them
  int64_t block_tokens = 0;
};

// Where the parts of a StateSpec lie in one block of memory. Immutable.
class StateLayout {
 public:
  explicit StateLayout(StateSpec spec);

  const StateSpec& spec() const { return spec_; }

  // Of the parts of all layers in one sequence; the hidden part is the last.
  int64_t part_count() const { return static_cast<int64_t>(parts_.size()); }
  const PartSpec& part(int64_t index) const { return *parts_[index].spec; }
  int64_t first_part(int64_t layer) const { return first_parts_[layer]; }
  int64_t hidden_part() const { return part_count() - 1; }

  // Floats from the start of the memory to buffer 0 or 1 of a part.
  int64_t offset(int64_t part, int buffer) const {
    return parts_[part].offsets[buffer];
  }
  // Rows that buffer 0 or 1 of a part has room for. Of a ring, which has one
  // buffer, those that a unit writes included.
  int64_t room(int64_t part, int buffer) const {
    return parts_[part].rooms[buffer];
  }
  int64_t total_floats() const { return total_floats_; }

  // Bytes that a SessionState of this layout takes, all told.
  int64_t state_bytes() const;

 private:
  struct Place {
    const PartSpec* spec;
    int64_t offsets[2];
    int64_t rooms[2];
  };

  const StateSpec spec_;
  const PartSpec hidden_;
  std::vector<Place> parts_;
  std::vector<int64_t> first_parts_;
  int64_t total_floats_ = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STATE_STATE_SPEC_H_
