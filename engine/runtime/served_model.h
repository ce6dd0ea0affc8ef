// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_SERVED_MODEL_H_
#define MNEME_ENGINE_RUNTIME_SERVED_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/model/model.h"
#include "engine/runtime/types.h"
#include "engine/text/tokenizer.h"

namespace mneme {

// A model under a name, with its tokenizer. Immutable.
struct ServedModel {
  std::string name;
  std::shared_ptr<const Model> model;
  std::unique_ptr<const Tokenizer> tokenizer;  // null: token sessions only
  absl::Time load_time;

  // The token ids that a model may say; empty: all.
  absl::Span<const uint8_t> sayable(SessionUnit unit) const {
    return unit == SessionUnit::kText ? tokenizer->sayable()
                                      : absl::Span<const uint8_t>();
  }

  // Whether `payload` can be input of a session of `unit`. Errors name `what`:
  // FAILED_PRECONDITION (WRONG_UNIT) for a payload of the other unit,
  // INVALID_ARGUMENT (BAD_FIELD) for an id that the model does not have.
  absl::Status CheckInput(SessionUnit unit, const Payload& payload,
                          const std::string& what) const;

  // Appends the tokens of checked input to `tokens`, given what it is to a
  // history: text, or ids of four bytes each. A token takes at least
  // UnitBytes(unit) bytes.
  void Encode(SessionUnit unit, std::string_view bytes,
              std::vector<int32_t>& tokens) const;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_SERVED_MODEL_H_
