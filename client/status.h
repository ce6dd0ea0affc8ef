// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_STATUS_H_
#define MNEME_CLIENT_STATUS_H_

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace mneme::client {

// The same status in Abseil's form. The server's reason and its metadata go
// to the end of the message, as in "no such session (SESSION_NOT_FOUND)" or
// "... (SEGMENT_GAP expected_offset=4096)"; the serialized google.rpc.Status
// stays attached as a payload. Details that cannot be read are ignored.
absl::Status ToAbslStatus(const grpc::Status& status);

// The value name of mneme.v1.ErrorReason that the server gave, e.g.
// "SEGMENT_GAP"; empty if it gave none.
std::string ReasonOf(const absl::Status& status);

// Whether the failure is one of the connection: no server answered, or it
// went away. A server that says UNAVAILABLE itself, with a reason, is there.
bool IsUnreachable(const absl::Status& status);

}  // namespace mneme::client

#endif  // MNEME_CLIENT_STATUS_H_
