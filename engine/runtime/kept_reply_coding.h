// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_KEPT_REPLY_CODING_H_
#define MNEME_ENGINE_RUNTIME_KEPT_REPLY_CODING_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/runtime/kept_reply.h"

namespace mneme {

// Appends `kept` to `out`; see engine/state/FORMAT.md. REQUIRES: it has a
// request id, and its reply is finished.
void EncodeKeptReply(const KeptReply& kept, std::string& out);

// What was encoded, without a task. DATA_LOSS for bytes that no reply of this
// model and unit has.
absl::StatusOr<KeptReply> DecodeKeptReply(
    std::string_view in, std::shared_ptr<const ServedModel> model,
    SessionUnit unit);

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_KEPT_REPLY_CODING_H_
