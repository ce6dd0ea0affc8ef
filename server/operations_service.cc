// SPDX-License-Identifier: Apache-2.0
#include "server/operations_service.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "server/answer.h"
#include "server/convert.h"
#include "server/names.h"

namespace mneme::server {
namespace {

constexpr absl::Duration kMaxWait = absl::Seconds(60);

}  // namespace

grpc::ServerUnaryReactor* OperationsService::GetOperation(
    grpc::CallbackServerContext* call, const v1::GetOperationRequest* request,
    v1::Operation* reply) {
  constexpr char kMethod[] = "mneme.v1.Operations/GetOperation";
  const std::string& name = request->name();
  const absl::StatusOr<std::string> id = ParseOperationName(name, "name");
  const absl::StatusOr<absl::Duration> wait =
      FromProto(request->wait(), "wait");
  if (!id.ok() || !wait.ok()) {
    return Answer(call, context_, kMethod, name,
                  [&] { return id.ok() ? wait.status() : id.status(); });
  }
  if (*wait < absl::ZeroDuration() || *wait > kMaxWait) {
    return Answer(call, context_, kMethod, name, [&] {
      return BadField(
          "wait",
          absl::StrCat("found ", absl::FormatDuration(*wait), ", wanted 0 to ",
                       absl::FormatDuration(kMaxWait)));
    });
  }
  auto answer =
      LateAnswer<v1::Operation>::Make(call, context_, kMethod, name, reply);
  grpc::ServerUnaryReactor* const reactor = answer->reactor();
  // Whoever comes first, the operation or the timer, tells how it stands.
  const auto tell = [operations = context_.operations,
                     id = *id](LateAnswer<v1::Operation>& to) {
    absl::StatusOr<v1::Operation> operation = operations->Get(id);
    if (operation.ok()) {
      to.End(*std::move(operation));
    } else {
      to.End(operation.status());
    }
  };
  if (*wait == absl::ZeroDuration()) {
    tell(*answer);
    return reactor;
  }
  answer->After(*wait, [raw = answer.get(), tell] { tell(*raw); });
  context_.operations->WhenDone(*id, [answer, tell] { tell(*answer); });
  return reactor;
}

grpc::ServerUnaryReactor* OperationsService::ListOperations(
    grpc::CallbackServerContext* call, const v1::ListOperationsRequest* request,
    v1::ListOperationsResponse* reply) {
  return Answer(call, context_, "mneme.v1.Operations/ListOperations", "",
                [&] { return List(*request, reply); });
}

absl::Status OperationsService::List(const v1::ListOperationsRequest& request,
                                     v1::ListOperationsResponse* reply) {
  MNEME_ASSIGN_OR_RETURN(const int64_t limit, PageSize(request.page_size()));
  MNEME_ASSIGN_OR_RETURN(
      const std::string before,
      DecodePageToken(request.page_token(), "operations", ""));
  std::vector<v1::Operation> page =
      context_.operations->List(before, limit + 1);
  for (v1::Operation& operation : page) {
    if (reply->operations_size() == limit) {
      MNEME_ASSIGN_OR_RETURN(
          const std::string last,
          ParseOperationName(reply->operations().rbegin()->name(), "name"));
      reply->set_next_page_token(EncodePageToken(
          {.collection = "operations", .filter = "", .after = last}));
      break;
    }
    *reply->add_operations() = std::move(operation);
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* OperationsService::CancelOperation(
    grpc::CallbackServerContext* call,
    const v1::CancelOperationRequest* request, v1::Operation* reply) {
  return Answer(
      call, context_, "mneme.v1.Operations/CancelOperation", request->name(),
      [&]() -> absl::Status {
        MNEME_ASSIGN_OR_RETURN(const std::string id,
                               ParseOperationName(request->name(), "name"));
        MNEME_ASSIGN_OR_RETURN(*reply, context_.operations->Cancel(id));
        return absl::OkStatus();
      });
}

}  // namespace mneme::server
