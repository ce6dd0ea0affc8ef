// SPDX-License-Identifier: Apache-2.0
//
// What requests may ask for, as far as it can be said before anything is done.
// Errors are INVALID_ARGUMENT (BAD_FIELD), with the field as the API spells it.
#ifndef MNEME_ENGINE_RUNTIME_REQUESTS_H_
#define MNEME_ENGINE_RUNTIME_REQUESTS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/runtime/types.h"
#include "engine/store/store_types.h"

namespace mneme {

absl::Status CheckId(const std::string& field, const std::string& id);
// Up to 64, keys of [a-z][a-z0-9._-]{0,62}, values of up to 256 bytes.
absl::Status CheckLabels(const std::map<std::string, std::string>& labels);
// Zero, or a second to ten years.
absl::Status CheckTtl(absl::Duration ttl);
// All of it but the prompt's contents, for a session of `unit`.
absl::Status CheckGenerate(const GenerateOptions& options, SessionUnit unit,
                           int64_t vocab_size);

// What is to be remembered of a request that had `outcome`; nothing if it has
// no id.
template <typename Outcome>
absl::optional<RememberedRequest> Remember(const RequestTag<Outcome>& request,
                                           const Outcome& outcome,
                                           absl::Time now) {
  if (request.id.empty()) return absl::nullopt;
  return RememberedRequest{.id = request.id,
                           .digest = request.digest,
                           .reply = request.reply(outcome),
                           .time = now};
}

bool Matches(const SessionFilter& filter, const SessionInfo& session);

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_REQUESTS_H_
