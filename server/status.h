// SPDX-License-Identifier: Apache-2.0
//
// Errors on their way to a client: the gRPC code with a google.rpc.Status in
// the binary details, as proto/mneme/v1/common.proto documents.
#ifndef MNEME_SERVER_STATUS_H_
#define MNEME_SERVER_STATUS_H_

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace mneme::server {

// `resource` is the name that the call is about ("sessions/alice"), or empty.
// An INTERNAL error is logged under an incident number, which the client gets.
grpc::Status ToGrpcStatus(const absl::Status& status,
                          const std::string& resource = "");

// UNIMPLEMENTED NOT_SUPPORTED for a field that was set.
absl::Status UnsupportedField(const std::string& field);

// `status`, which says of what there is one already if it is ALREADY_EXISTS: of
// a session.
absl::Status SessionExists(absl::Status status);

// UNAVAILABLE DRAINING.
absl::Status DrainingError();

// "RESOURCE_EXHAUSTED" and so on.
const char* CodeName(grpc::StatusCode code);

}  // namespace mneme::server

#endif  // MNEME_SERVER_STATUS_H_
