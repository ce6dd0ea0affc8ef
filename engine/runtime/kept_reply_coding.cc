// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/kept_reply_coding.h"

#include <utility>

#include "engine/base/byte_coder.h"
#include "engine/base/status_macros.h"

namespace mneme {

void EncodeKeptReply(const KeptReply& kept, std::string& out) {
  ByteWriter writer(out);
  writer.Bytes(kept.request_id);
  writer.Bytes(kept.request_digest);
  writer.Bool(kept.had_prompt);
  kept.reply->Encode(out);
}

absl::StatusOr<KeptReply> DecodeKeptReply(
    std::string_view in, std::shared_ptr<const ServedModel> model,
    SessionUnit unit) {
  ByteReader reader(in);
  KeptReply kept{.request_id = reader.String(),
                 .request_digest = reader.String(),
                 .had_prompt = reader.Bool(),
                 .reply = nullptr,
                 .task = {}};
  if (!reader.ok() || kept.request_id.empty()) {
    return absl::DataLossError("kept reply: found no request id");
  }
  MNEME_ASSIGN_OR_RETURN(kept.reply, Reply::Decode(reader.Raw(reader.left()),
                                                   std::move(model), unit));
  return kept;
}

}  // namespace mneme
