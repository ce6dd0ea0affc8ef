// SPDX-License-Identifier: Apache-2.0
#include "server/admin_service.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "server/answer.h"
#include "server/convert.h"
#include "server/names.h"

namespace mneme::server {
namespace {

constexpr absl::Duration kDefaultDrain = absl::Seconds(30);
constexpr absl::Duration kMaxDrain = absl::Hours(24);
constexpr int kMaxIncidents = 100;
constexpr int64_t kMaxTasks = 1000;
constexpr int64_t kPage = 1000;

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  file >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

v1::Node::State ToProto(NodeContext::State state) {
  switch (state) {
    case NodeContext::State::kServing:
      return v1::Node::SERVING;
    case NodeContext::State::kDraining:
      return v1::Node::DRAINING;
    case NodeContext::State::kDrained:
      return v1::Node::DRAINED;
  }
  return v1::Node::STATE_UNSPECIFIED;
}

const char* TaskKind(SessionActivity activity) {
  switch (activity) {
    case SessionActivity::kAppending:
      return "append";
    case SessionActivity::kGenerating:
      return "generate";
    case SessionActivity::kScoring:
      return "score";
    case SessionActivity::kCommittingSegment:
      return "commit_segment";
    case SessionActivity::kIdle:
      break;
  }
  return "";
}

std::string NodeName(const NodeContext& node) { return "nodes/" + node.name; }

}  // namespace

v1::Budget AdminService::DescribeBudget() const {
  const EngineStats stats = context_.engine->stats();
  v1::Budget budget;
  budget.set_session_memory_bytes(stats.session_memory_limit_bytes);
  budget.set_session_memory_used_bytes(stats.session_memory_used_bytes);
  int64_t weight_bytes = 0;
  int64_t scratch_bytes = 0;
  int64_t transfer_bytes = 0;  // these two of the largest model
  int64_t session_bytes = 0;
  for (const ModelInfo& model : context_.engine->ListModels()) {
    weight_bytes += model.weight_bytes;
    scratch_bytes += model.scratch_bytes;
    transfer_bytes = std::max(transfer_bytes, model.transfer_bytes);
    session_bytes =
        std::max(session_bytes, model.state_bytes + model.index_bytes);
  }
  int64_t hot_sessions = 0;
  for (const EngineStats::ModelStats& model : stats.models) {
    hot_sessions += model.hot_sessions;
  }
  budget.set_weight_bytes(weight_bytes);
  budget.set_scratch_bytes(scratch_bytes + transfer_bytes);
  budget.set_index_bytes(stats.index_bytes);
  budget.set_constant_bytes(kTransportBytes + kProcessBytes +
                            stats.store_memory_bytes);
  budget.set_resident_bytes(ResidentBytes());
  budget.set_hot_sessions(hot_sessions);
  if (session_bytes > 0) {
    budget.set_hot_sessions_limit(stats.session_memory_limit_bytes /
                                  session_bytes);
  }
  return budget;
}

v1::Node AdminService::Describe() const {
  const EngineStats stats = context_.engine->stats();
  v1::Node node;
  node.set_name(NodeName(*node_));
  node.set_state(ToProto(node_->state));
  node.set_version(node_->version);
  node.set_arithmetic_level(stats.arithmetic_level);
  node.set_threads(stats.threads);
  *node.mutable_start_time() = ToTimestamp(node_->start_time);
  node.set_open_streams(context_.pump->streams());
  *node.mutable_budget() = DescribeBudget();
  node.set_sessions(stats.sessions);
  for (const ModelInfo& model : context_.engine->ListModels()) {
    if (model.state == ModelState::kLoaded) {
      node.add_models(ModelName(model.name));
    }
  }
  node.set_address(node_->address);
  return node;
}

grpc::ServerUnaryReactor* AdminService::GetNode(
    grpc::CallbackServerContext* call, const v1::GetNodeRequest* /*request*/,
    v1::Node* reply) {
  return Answer(call, context_, "mneme.v1.Admin/GetNode", "", [&] {
    *reply = Describe();
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AdminService::Drain(grpc::CallbackServerContext* call,
                                              const v1::DrainRequest* request,
                                              v1::Operation* reply) {
  return AnswerOnce(call, context_, "mneme.v1.Admin/Drain", "", *request, reply,
                    [&](v1::Operation* out, const auto& done) {
                      done(StartDrain(*request, out));
                    });
}

absl::Status AdminService::StartDrain(const v1::DrainRequest& request,
                                      v1::Operation* reply) {
  absl::Duration timeout = kDefaultDrain;
  if (request.has_timeout()) {
    MNEME_ASSIGN_OR_RETURN(timeout, FromProto(request.timeout(), "timeout"));
    if (timeout < absl::ZeroDuration() || timeout > kMaxDrain) {
      return BadField(
          "timeout",
          absl::StrCat("found ", absl::FormatDuration(timeout),
                       ", wanted 0 to ", absl::FormatDuration(kMaxDrain)));
    }
  }
  const absl::Time deadline = context_.clock->Now() + timeout;
  MNEME_ASSIGN_OR_RETURN(
      *reply, context_.operations->Start(
                  "mneme.v1.Admin.Drain", NodeName(*node_),
                  [this, deadline](
                      const std::function<bool()>& /*cancelled*/,
                      std::unique_ptr<google::protobuf::Message>& response) {
                    node_->drain(deadline);
                    response = std::make_unique<v1::Node>(Describe());
                    return absl::OkStatus();
                  }));
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AdminService::ListOwners(
    grpc::CallbackServerContext* call, const v1::ListOwnersRequest* request,
    v1::ListOwnersResponse* reply) {
  return Answer(call, context_, "mneme.v1.Admin/ListOwners", "",
                [&] { return Owners(*request, reply); });
}

absl::Status AdminService::Owners(const v1::ListOwnersRequest& request,
                                  v1::ListOwnersResponse* reply) {
  MNEME_ASSIGN_OR_RETURN(const int64_t limit, PageSize(request.page_size()));
  MNEME_ASSIGN_OR_RETURN(
      const std::string after,
      DecodePageToken(request.page_token(), "owners", request.node()));
  if (!request.node().empty() && request.node() != NodeName(*node_)) {
    return absl::OkStatus();  // another node owns nothing here
  }
  std::string last;
  for (const SessionInfo& session :
       context_.engine->ListSessions(after, limit + 1, {})) {
    if (reply->owners_size() == limit) {
      reply->set_next_page_token(EncodePageToken(
          {.collection = "owners", .filter = request.node(), .after = last}));
      break;
    }
    v1::Owner* const owner = reply->add_owners();
    owner->set_session(SessionName(session.id));
    owner->set_node(NodeName(*node_));
    owner->set_address(node_->address);
    owner->set_epoch(session.epoch);
    last = session.id;
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AdminService::SetBudget(
    grpc::CallbackServerContext* call, const v1::SetBudgetRequest* request,
    v1::Budget* reply) {
  return AnswerOnce(
      call, context_, "mneme.v1.Admin/SetBudget", "", *request, reply,
      [&](v1::Budget* out, const RequestIdTable::Done& done) {
        // Sessions that have to leave are stored first, which takes time.
        const absl::StatusOr<v1::Operation> started =
            context_.operations->Start(
                "mneme.v1.Admin.SetBudget", NodeName(*node_),
                [this, out, done, bytes = request->session_memory_bytes()](
                    const std::function<bool()>& /*cancelled*/,
                    std::unique_ptr<google::protobuf::Message>& response) {
                  const absl::Status status =
                      context_.engine->SetSessionMemory(bytes);
                  if (status.ok()) {
                    *out = DescribeBudget();
                    response = std::make_unique<v1::Budget>(*out);
                  }
                  done(status);
                  return status;
                });
        if (!started.ok()) done(started.status());
      });
}

grpc::ServerUnaryReactor* AdminService::GetDiagnostics(
    grpc::CallbackServerContext* call, const v1::GetDiagnosticsRequest* request,
    v1::Diagnostics* reply) {
  return Answer(call, context_, "mneme.v1.Admin/GetDiagnostics", "",
                [&] { return Diagnose(*request, reply); });
}

// Incidents are in the log; this build has no fallbacks to count.
absl::Status AdminService::Diagnose(const v1::GetDiagnosticsRequest& request,
                                    v1::Diagnostics* reply) {
  if (request.incidents() < 0 || request.incidents() > kMaxIncidents) {
    return BadField("incidents", absl::StrCat("found ", request.incidents(),
                                              ", wanted 0 to ", kMaxIncidents));
  }
  *reply->mutable_node() = Describe();
  for (const auto& [key, value] : node_->settings) {
    (*reply->mutable_settings())[key] = value;
  }
  std::string after;
  while (true) {
    const std::vector<SessionInfo> page =
        context_.engine->ListSessions(after, kPage, {});
    for (const SessionInfo& session : page) {
      if (session.activity == SessionActivity::kIdle) continue;
      if (reply->tasks_size() == kMaxTasks) return absl::OkStatus();
      v1::Diagnostics::Task* const task = reply->add_tasks();
      task->set_kind(TaskKind(session.activity));
      task->set_session(SessionName(session.id));
    }
    if (static_cast<int64_t>(page.size()) < kPage) return absl::OkStatus();
    after = page.back().id;
  }
}

}  // namespace mneme::server
