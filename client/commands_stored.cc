// SPDX-License-Identifier: Apache-2.0
//
// The commands on sessions as stored things: forked, taken back, kept, carried
// elsewhere, watched and verified.
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/time_util.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands.h"
#include "client/input.h"

namespace mneme::client {
namespace {

using google::protobuf::util::TimeUtil;

constexpr char kStandard[] = "-";  // output or input

// A file that is there under its name once it is whole.
class NewFile {
 public:
  explicit NewFile(std::string path)
      : path_(std::move(path)), part_(path_ + ".part") {}
  ~NewFile() {
    if (file_ == nullptr) return;
    std::fclose(file_);
    std::remove(part_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  absl::Status Add(const std::string& bytes) {
    if (file_ == nullptr) file_ = std::fopen(part_.c_str(), "wbe");
    if (file_ == nullptr ||
        std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) {
      return Failed("write");
    }
    return absl::OkStatus();
  }
  absl::Status Finish() {
    absl::Status opened = Add("");
    if (!opened.ok()) return opened;
    FILE* const file = std::exchange(file_, nullptr);
    if (std::fclose(file) != 0) return Failed("write");
    if (std::rename(part_.c_str(), path_.c_str()) != 0) return Failed("make");
    return absl::OkStatus();
  }

 private:
  absl::Status Failed(const char* verb) const {
    return absl::ErrnoToStatus(errno,
                               absl::StrCat("cannot ", verb, " ", path_));
  }

  const std::string path_;
  const std::string part_;
  FILE* file_ = nullptr;
};

// All sessions that there are, by name.
absl::StatusOr<std::vector<std::string>> SessionNames(Client* client) {
  std::vector<std::string> names;
  v1::ListSessionsRequest request;
  request.set_page_size(1000);
  do {
    const auto page = client->ListSessions(request);
    if (!page.ok()) return page.status();
    for (const v1::Session& session : page->sessions()) {
      names.push_back(session.name());
    }
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  return names;
}

absl::Status PrintVerified(const Cli& cli, const std::string& name,
                           const v1::VerifySessionResponse& verified) {
  if (cli.json) {
    google::protobuf::Struct line;
    (*line.mutable_fields())["name"].set_string_value(name);
    (*line.mutable_fields())["whole"].set_bool_value(verified.whole());
    (*line.mutable_fields())["problem"].set_string_value(verified.problem());
    return PrintJson(line);
  }
  return Print(verified.whole() ? absl::StrCat("whole ", name, "\n")
                                : absl::StrCat("damaged ", name, ": ",
                                               verified.problem(), "\n"));
}

}  // namespace

absl::Status RunSessionsFork(const Cli& cli, const ForkSessionArgs& args) {
  v1::ForkSessionRequest request;
  request.set_source(ResourceName("sessions/", args.source));
  request.set_session_id(ResourceId("sessions/", args.session));
  if (!args.snapshot.empty()) {
    request.set_snapshot(SnapshotName(args.source, args.snapshot));
  }
  SetLabels(args.labels, request.mutable_session());
  if (args.ttl_seconds > 0) {
    request.mutable_session()->mutable_ttl()->set_seconds(args.ttl_seconds);
  }
  const absl::StatusOr<v1::Session> made = cli.client->ForkSession(request);
  if (!made.ok()) return made.status();
  if (cli.json) return PrintJson(*made);
  return Print(absl::StrCat("forked ", request.source(), " at offset ",
                            made->next_offset(), " to ", made->name(), ", uid ",
                            made->uid(), "\n"));
}

absl::Status RunSessionsRollback(const Cli& cli,
                                 const RollbackSessionArgs& args) {
  v1::RollbackSessionRequest request;
  request.set_name(ResourceName("sessions/", args.session));
  if (args.offset.has_value()) {
    request.set_offset(*args.offset);
  } else {
    request.set_snapshot(SnapshotName(args.session, args.snapshot));
  }
  request.set_takeover(args.takeover);
  const absl::StatusOr<v1::Session> session =
      cli.client->RollbackSession(request);
  if (!session.ok()) return session.status();
  if (cli.json) return PrintJson(*session);
  return Print(absl::StrCat("took ", session->name(), " back to offset ",
                            session->next_offset(), ", epoch ",
                            session->epoch(), "\n"));
}

absl::Status RunSnapshotsCreate(const Cli& cli, const SnapshotArgs& args) {
  v1::CreateSnapshotRequest request;
  request.set_parent(ResourceName("sessions/", args.session));
  request.set_snapshot_id(args.snapshot);
  const absl::StatusOr<v1::Snapshot> made = cli.client->CreateSnapshot(request);
  if (!made.ok()) return made.status();
  if (cli.json) return PrintJson(*made);
  return Print(
      absl::StrCat("kept ", made->name(), " at offset ", made->offset(), "\n"));
}

absl::Status RunSnapshotsList(const Cli& cli, const SnapshotArgs& args) {
  v1::ListSnapshotsRequest request;
  request.set_parent(ResourceName("sessions/", args.session));
  request.set_page_size(1000);
  v1::ListSnapshotsResponse all;
  do {
    const auto page = cli.client->ListSnapshots(request);
    if (!page.ok()) return page.status();
    all.MergeFrom(*page);
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  all.clear_next_page_token();
  if (cli.json) return PrintJson(all);
  std::string text =
      absl::StrFormat("%-40s %12s %12s %12s %-9s %s\n", "SNAPSHOT", "OFFSET",
                      "POSITION", "BYTES", "BY", "CREATED");
  for (const v1::Snapshot& snapshot : all.snapshots()) {
    absl::StrAppend(
        &text, absl::StrFormat("%-40s %12d %12d %12d %-9s %s\n",
                               snapshot.name(), snapshot.offset(),
                               snapshot.position(), snapshot.stored_bytes(),
                               snapshot.automatic() ? "server" : "request",
                               TimeUtil::ToString(snapshot.create_time())));
  }
  return Print(text);
}

absl::Status RunSnapshotsDelete(const Cli& cli, const SnapshotArgs& args) {
  v1::DeleteSnapshotRequest request;
  request.set_name(SnapshotName(args.session, args.snapshot));
  absl::Status deleted = cli.client->DeleteSnapshot(request);
  if (!deleted.ok()) return deleted;
  if (cli.json) return Print("{}\n");
  return Print(absl::StrCat("deleted ", request.name(), "\n"));
}

absl::Status RunSessionsExport(const Cli& cli, const ExportSessionArgs& args) {
  v1::ExportSessionRequest request;
  request.set_name(ResourceName("sessions/", args.session));
  if (!args.snapshot.empty()) {
    request.set_snapshot(SnapshotName(args.session, args.snapshot));
  }
  if (args.file == kStandard) {
    return cli.client->ExportSession(request, Print).status();
  }
  NewFile file(args.file);
  const absl::StatusOr<int64_t> bytes = cli.client->ExportSession(
      request, [&](const std::string& chunk) { return file.Add(chunk); });
  if (!bytes.ok()) return bytes.status();
  absl::Status finished = file.Finish();
  if (!finished.ok()) return finished;
  if (cli.json) {
    v1::ExportSessionResponse told;
    told.set_total_bytes(*bytes);
    return PrintJson(told);
  }
  return Print(absl::StrCat("exported ", request.name(), " to ", args.file,
                            ", ", *bytes, " bytes\n"));
}

absl::Status RunSessionsImport(const Cli& cli, const ImportSessionArgs& args) {
  v1::ImportSessionRequest::Open open;
  open.set_session_id(ResourceId("sessions/", args.session));
  if (!args.model.empty()) {
    open.set_model(ResourceName("models/", args.model));
  }
  const absl::StatusOr<std::unique_ptr<Input>> input =
      Input::Open({args.file}, [&cli] { return cli.interrupted->load(); });
  if (!input.ok()) return input.status();
  const absl::StatusOr<v1::Session> session = cli.client->ImportSession(
      open, [&](int64_t max_bytes) { return (*input)->Read(max_bytes); });
  if (!session.ok()) return session.status();
  if (cli.json) return PrintJson(*session);
  return Print(absl::StrCat(
      "imported ", session->name(), " on ", session->model(), " at offset ",
      session->next_offset(), ", uid ", session->uid(), "\n"));
}

absl::Status RunSessionsWatch(const Cli& cli, const SessionArgs& args) {
  v1::WatchSessionRequest request;
  request.set_name(ResourceName("sessions/", args.session));
  return cli.client->WatchSession(request, [&](const v1::SessionEvent& event) {
    if (cli.json) return PrintJson(event);
    return Print(absl::StrCat(
        TimeUtil::ToString(event.time()), " ",
        v1::SessionEvent::Type_Name(event.type()), " ",
        v1::Session::StateTier_Name(event.session().state_tier()), " epoch ",
        event.session().epoch(), " offset ", event.session().next_offset(),
        event.detail().empty() ? "" : ": ", event.detail(), "\n"));
  });
}

absl::Status RunSessionsVerify(const Cli& cli, const VerifySessionsArgs& args) {
  std::vector<std::string> names;
  for (const std::string& session : args.sessions) {
    names.push_back(ResourceName("sessions/", session));
  }
  if (names.empty()) {
    const auto all = SessionNames(cli.client);
    if (!all.ok()) return all.status();
    names = *all;
  }
  size_t damaged = 0;
  for (const std::string& name : names) {
    v1::VerifySessionRequest request;
    request.set_name(name);
    const absl::StatusOr<v1::VerifySessionResponse> verified =
        cli.client->VerifySession(request);
    // One of all may be deleted meanwhile.
    if (args.sessions.empty() && absl::IsNotFound(verified.status())) continue;
    if (!verified.ok()) return verified.status();
    if (!verified->whole()) ++damaged;
    absl::Status printed = PrintVerified(cli, name, *verified);
    if (!printed.ok()) return printed;
  }
  if (damaged == 0) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(damaged, " of ", names.size(), " sessions are damaged"));
}

}  // namespace mneme::client
