// SPDX-License-Identifier: Apache-2.0
//
// What a Client is made of; kept out of client.h, so that its users need not
// compile gRPC's headers.
#ifndef MNEME_CLIENT_STUBS_H_
#define MNEME_CLIENT_STUBS_H_

#include <grpcpp/channel.h>

#include <memory>

#include "client/active_calls.h"
#include "client/client.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "mneme/v1/memory.grpc.pb.h"
#include "mneme/v1/models.grpc.pb.h"
#include "mneme/v1/operations.grpc.pb.h"
#include "mneme/v1/sessions.grpc.pb.h"

namespace mneme::client {

struct Client::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : sessions(v1::Sessions::NewStub(channel)),
        memory(v1::Memory::NewStub(channel)),
        models(v1::Models::NewStub(channel)),
        operations(v1::Operations::NewStub(channel)),
        health(grpc::health::v1::Health::NewStub(channel)),
        calls(channel) {}

  const std::unique_ptr<v1::Sessions::Stub> sessions;
  const std::unique_ptr<v1::Memory::Stub> memory;
  const std::unique_ptr<v1::Models::Stub> models;
  const std::unique_ptr<v1::Operations::Stub> operations;
  const std::unique_ptr<grpc::health::v1::Health::Stub> health;
  ActiveCalls calls;
};

}  // namespace mneme::client

#endif  // MNEME_CLIENT_STUBS_H_
