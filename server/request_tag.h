// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_REQUEST_TAG_H_
#define MNEME_SERVER_REQUEST_TAG_H_

#include <string>

#include "engine/engine.h"
#include "server/convert.h"
#include "server/request_id_table.h"

namespace mneme::server {

// What the engine remembers of `request`, so that it is answered alike after a
// restart: nothing if it has no id.
template <typename Outcome, typename Request>
RequestTag<Outcome> TagOf(const char* method, const Request& request) {
  if (request.request_id().empty()) return {};
  return {.id = request.request_id(),
          .digest = RequestDigest(method, request),
          .reply = [](const Outcome& outcome) {
            return ToProto(outcome).SerializeAsString();
          }};
}

// The same of a method that answers with nothing.
template <typename Outcome, typename Request>
RequestTag<Outcome> TagOfSilent(const char* method, const Request& request) {
  RequestTag<Outcome> tag = TagOf<Outcome>(method, request);
  tag.reply = [](const Outcome& /*outcome*/) { return std::string(); };
  return tag;
}

}  // namespace mneme::server

#endif  // MNEME_SERVER_REQUEST_TAG_H_
