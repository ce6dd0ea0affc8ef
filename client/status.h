// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_STATUS_H_
#define MNEME_CLIENT_STATUS_H_

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

namespace mneme::client {

// The same status in Abseil's form. The server's reason and its metadata go
// to the end of the message, as in "no such session (SESSION_NOT_FOUND)" or
// "... (SEGMENT_GAP expected_offset=4096)"; the serialized google.rpc.Status
// stays attached as a payload. Details that cannot be read are ignored.
absl::Status ToAbslStatus(const grpc::Status& status);

// The value name of mneme.v1.ErrorReason that the server gave, e.g.
// "SEGMENT_GAP"; empty if it gave none.
std::string ReasonOf(const absl::Status& status);

// The value that the server gave for `key` with its reason, e.g. "4096" for
// "expected_offset"; empty if it gave none.
std::string ReasonMetadata(const absl::Status& status, const std::string& key);

// How long the server asks to wait before the call is made again, if it does.
absl::optional<absl::Duration> RetryDelayOf(const absl::Status& status);

// Whether the same call may be made again: UNAVAILABLE, except from a server
// that says that another one has the session; and RESOURCE_EXHAUSTED where
// the server names a time to wait.
bool IsRetryable(const absl::Status& status);

// Whether a stream was cut rather than ended: what IsRetryable is, and also
// what a transport or a proxy makes of a lost connection, which is CANCELLED,
// INTERNAL or UNKNOWN without a reason of the server's. Who cancelled the
// call itself has to know so.
bool IsBrokenStream(const absl::Status& status);

// Whether the failure is one of the connection: no server answered, or it
// went away. A server that says UNAVAILABLE itself, with a reason, is there.
bool IsUnreachable(const absl::Status& status);

}  // namespace mneme::client

#endif  // MNEME_CLIENT_STATUS_H_
