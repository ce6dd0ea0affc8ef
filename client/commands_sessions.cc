// SPDX-License-Identifier: Apache-2.0
#include <google/protobuf/util/time_util.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/commands.h"

namespace mneme::client {
namespace {

using google::protobuf::util::TimeUtil;

std::string Describe(const v1::Session& session) {
  std::string text;
  const auto line = [&text](const char* key, const auto& value) {
    absl::StrAppend(&text, absl::StrFormat("%-18s ", key), value, "\n");
  };
  line("name", session.name());
  line("uid", session.uid());
  line("epoch", session.epoch());
  line("model", session.model());
  line("unit", v1::Session::Unit_Name(session.unit()));
  line("state", v1::Session::State_Name(session.state()));
  if (!session.state_detail().empty()) line("why", session.state_detail());
  line("busy", v1::Session::Busy_Name(session.busy()));
  line("position", session.position());
  line("next offset", session.next_offset());
  line("absorbed offset", session.absorbed_offset());
  line("durable offset", session.durable_offset());
  line("pending tokens", session.pending_tokens());
  line("pending bytes", session.pending_bytes());
  line("durability", v1::Session::Durability_Name(session.durability()));
  line("state tier", v1::Session::StateTier_Name(session.state_tier()));
  if (session.pinned()) line("pinned", "in memory");
  line("state bytes", session.state_bytes());
  // Only a FULL view has them.
  if (!session.state_digest().empty()) {
    line("state digest", session.state_digest());
  }
  if (!session.history_digest().empty()) {
    line("history digest", session.history_digest());
  }
  line("model fingerprint", session.model_fingerprint());
  const std::map<std::string, std::string> labels(session.labels().begin(),
                                                  session.labels().end());
  for (const auto& [key, value] : labels) {
    line("label", absl::StrCat(key, "=", value));
  }
  line("created", TimeUtil::ToString(session.create_time()));
  line("updated", TimeUtil::ToString(session.update_time()));
  if (session.has_expire_time()) {
    line("expires", TimeUtil::ToString(session.expire_time()));
  }
  return text;
}

}  // namespace

void SetLabels(const std::vector<std::string>& labels, v1::Session* session) {
  for (const std::string& label : labels) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(label, absl::MaxSplits('=', 1));
    (*session->mutable_labels())[parts.first] = parts.second;
  }
}

absl::Status RunSessionsCreate(const Cli& cli, const CreateSessionArgs& args) {
  v1::CreateSessionRequest request;
  // The full name is accepted everywhere; the request wants the id.
  request.set_session_id(ResourceId("sessions/", args.session));
  request.set_source_snapshot(args.snapshot);
  v1::Session* session = request.mutable_session();
  if (!args.model.empty()) {
    session->set_model(ResourceName("models/", args.model));
  }
  if (args.unit == "text") session->set_unit(v1::Session::TEXT);
  if (args.unit == "tokens") session->set_unit(v1::Session::TOKENS);
  session->set_pinned(args.pinned);
  SetLabels(args.labels, session);
  if (args.ttl_seconds > 0) {
    session->mutable_ttl()->set_seconds(args.ttl_seconds);
  }
  const absl::StatusOr<v1::Session> made = cli.client->CreateSession(request);
  if (!made.ok()) return made.status();
  if (cli.json) return PrintJson(*made);
  return Print(absl::StrCat("created ", made->name(), " on ", made->model(),
                            ", uid ", made->uid(), "\n"));
}

absl::Status RunSessionsList(const Cli& cli, const ListSessionsArgs& args) {
  v1::ListSessionsRequest request;
  request.set_page_size(1000);
  request.set_filter(args.filter);
  v1::ListSessionsResponse all;
  while (true) {
    const auto page = cli.client->ListSessions(request);
    if (!page.ok()) return page.status();
    all.MergeFrom(*page);
    all.set_next_page_token(page->next_page_token());
    if (page->next_page_token().empty()) break;
    request.set_page_token(page->next_page_token());
  }
  if (cli.json) return PrintJson(all);
  std::string text = absl::StrFormat("%-32s %-20s %-6s %12s %12s %-4s %s\n",
                                     "SESSION", "MODEL", "UNIT", "POSITION",
                                     "NEXT OFFSET", "TIER", "BUSY");
  for (const v1::Session& session : all.sessions()) {
    absl::StrAppend(
        &text,
        absl::StrFormat("%-32s %-20s %-6s %12d %12d %-4s %s\n", session.name(),
                        session.model(), v1::Session::Unit_Name(session.unit()),
                        session.position(), session.next_offset(),
                        v1::Session::StateTier_Name(session.state_tier()),
                        v1::Session::Busy_Name(session.busy())));
  }
  for (const std::string& node : all.unreachable()) {
    absl::StrAppend(&text, "not asked: ", node, "\n");
  }
  return Print(text);
}

absl::Status RunSessionsShow(const Cli& cli, const SessionArgs& args) {
  v1::GetSessionRequest request;
  request.set_name(ResourceName("sessions/", args.session));
  const absl::StatusOr<v1::Session> session = cli.client->GetSession(request);
  if (!session.ok()) return session.status();
  if (cli.json) return PrintJson(*session);
  return Print(Describe(*session));
}

absl::Status RunSessionsUpdate(const Cli& cli, const UpdateSessionArgs& args) {
  v1::UpdateSessionRequest request;
  v1::Session* const session = request.mutable_session();
  session->set_name(ResourceName("sessions/", args.session));
  if (args.ttl_seconds.has_value()) {
    session->mutable_ttl()->set_seconds(*args.ttl_seconds);
    request.mutable_update_mask()->add_paths("ttl");
  }
  if (args.pinned.has_value()) {
    session->set_pinned(*args.pinned);
    request.mutable_update_mask()->add_paths("pinned");
  }
  if (!args.labels.empty() || !args.remove_labels.empty()) {
    // An update replaces all labels; the etag makes sure that nobody else
    // changes them in between.
    v1::GetSessionRequest get;
    get.set_name(session->name());
    get.set_view(v1::SESSION_VIEW_BASIC);
    const absl::StatusOr<v1::Session> found = cli.client->GetSession(get);
    if (!found.ok()) return found.status();
    session->set_etag(found->etag());
    auto& labels = *session->mutable_labels();
    labels = found->labels();
    for (const std::string& key : args.remove_labels) labels.erase(key);
    SetLabels(args.labels, session);
    request.mutable_update_mask()->add_paths("labels");
  }
  const absl::StatusOr<v1::Session> updated =
      cli.client->UpdateSession(request);
  if (!updated.ok()) return updated.status();
  return cli.json ? PrintJson(*updated) : Print(Describe(*updated));
}

absl::Status RunSessionsReset(const Cli& cli, const ResetSessionArgs& args) {
  v1::ResetSessionRequest request;
  request.set_name(ResourceName("sessions/", args.session));
  request.set_takeover(args.takeover);
  const absl::StatusOr<v1::Session> session = cli.client->ResetSession(request);
  if (!session.ok()) return session.status();
  if (cli.json) return PrintJson(*session);
  return Print(absl::StrCat("emptied ", session->name(), ", epoch ",
                            session->epoch(), "\n"));
}

absl::Status RunSessionsCommitSegment(const Cli& cli, const SessionArgs& args) {
  v1::CommitSegmentRequest request;
  request.set_session(ResourceName("sessions/", args.session));
  const absl::StatusOr<v1::CommitSegmentResponse> committed =
      cli.client->CommitSegment(request);
  if (!committed.ok()) return committed.status();
  if (cli.json) return PrintJson(*committed);
  return Print(absl::StrCat("committed a segment of ",
                            committed->segment_tokens(), " tokens at position ",
                            committed->position(), "\n"));
}

absl::Status RunSessionsDelete(const Cli& cli, const SessionArgs& args) {
  v1::DeleteSessionRequest request;
  request.set_name(ResourceName("sessions/", args.session));
  absl::Status deleted = cli.client->DeleteSession(request);
  if (!deleted.ok()) return deleted;
  if (cli.json) return Print("{}\n");
  return Print(absl::StrCat("deleted ", request.name(), "\n"));
}

}  // namespace mneme::client
