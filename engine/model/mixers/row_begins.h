// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_MIXERS_ROW_BEGINS_H_
#define MNEME_ENGINE_MODEL_MIXERS_ROW_BEGINS_H_

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "engine/model/pass.h"

namespace mneme {

// Where the view of each row of a pass begins, as AttentionSlice wants it.
class RowBegins {
 public:
  // `begin_of`(position) is the first position that the token there sees.
  template <typename BeginOf>
  RowBegins(const Pass& pass, const BeginOf& begin_of) {
    for (const PassSlice& slice : pass.slices) {
      for (int64_t i = 0; i < slice.rows; ++i) {
        begins_.push_back(begin_of(slice.position + i));
      }
    }
  }

  const int64_t* of(const PassSlice& slice) const {
    return begins_.data() + slice.first_row;
  }

 private:
  absl::InlinedVector<int64_t, kBlockRows> begins_;  // one per row
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MIXERS_ROW_BEGINS_H_
