// SPDX-License-Identifier: Apache-2.0
//
// What is kept of sessions: taken back to, listed, carried elsewhere.
#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "engine/base/errors.h"
#include "engine/base/wait_for.h"
#include "tests/property/api_caller.h"

namespace mneme {
namespace {

using absl::StatusCode;
using Infos = absl::StatusOr<SessionInfo>;

constexpr size_t kMostSnapshots = 4;
constexpr size_t kMostSessions = 9;

// The offset that an error names; -1 if it names none.
int64_t NearestOffset(const absl::Status& status) {
  int64_t offset = -1;
  const absl::optional<ErrorReason> reason = GetReason(status);
  if (!reason.has_value()) return offset;
  for (const auto& [key, value] : reason->metadata) {
    if (key == "nearest_offset" && absl::SimpleAtoi(value, &offset)) break;
  }
  return offset;
}

}  // namespace

// -- Snapshots ---------------------------------------------------------------

std::string ApiCaller::PickSnapshot(ModelSession& session) {
  if (Chance(15)) return "none";
  if (!session.snapshots.empty() && Chance(70)) {
    auto picked = session.snapshots.begin();
    std::advance(picked, Draw(static_cast<int64_t>(session.snapshots.size())));
    return picked->first;
  }
  const auto listed = engine_->ListSnapshots(session.id);
  if (!Expect(listed, {{StatusCode::kOk}}) || listed->empty()) return "none";
  return (*listed)[Draw(static_cast<int64_t>(listed->size()))].name;
}

absl::optional<ModelSnapshot> ApiCaller::FindSnapshot(ModelSession& session,
                                                      const std::string& name) {
  const auto named = session.snapshots.find(name);
  if (named != session.snapshots.end()) return named->second;
  const auto listed = engine_->ListSnapshots(session.id);
  if (!Expect(listed, {{StatusCode::kOk}})) return absl::nullopt;
  for (const SnapshotInfo& info : *listed) {
    if (info.name != name) continue;
    const int64_t at = info.offset * session.unit_bytes();
    auto history = at == session.history.size()
                       ? absl::optional<ModelHistory>(session.history)
                       : session.history.UpTo(at, session.floor);
    if (!history.has_value()) {
      Wrong("snapshot " + name + " stands inside a token");
      return absl::nullopt;
    }
    // What came there without any bytes may be in it or not.
    if (!session.history.certain || session.history.HasEmptyOpAt(at)) {
      history->certain = false;
    }
    return ModelSnapshot{.history = *std::move(history),
                         .state_digest = info.state_digest};
  }
  return absl::nullopt;
}

int64_t ApiCaller::OldestKept(const ModelSession& session) {
  const auto listed = engine_->ListSnapshots(session.id);
  if (!Expect(listed, {{StatusCode::kOk}})) return 0;
  for (const SnapshotInfo& info : *listed) {
    if (info.automatic) return info.offset;
  }
  return 0;
}

void ApiCaller::KeepSnapshot() {
  SnapshotOptions options;
  options.session = PickId();
  options.name = absl::StrCat("n", Draw(6));
  options.request = Tag<SnapshotInfo>();
  ModelSession* const session = FindSession(options.session);
  Wants wants = {{StatusCode::kOk}};
  const int64_t fault = Draw(10);
  if (session == nullptr) {
    wants = {{StatusCode::kNotFound}};
  } else if (fault == 0) {
    options.name = Chance(50) ? "auto-7" : PickBadId();
    wants = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
  } else if (session->snapshots.count(options.name) != 0) {
    wants = {{StatusCode::kAlreadyExists, "SNAPSHOT_EXISTS"}};
  } else if (session->snapshots.size() >= kMostSnapshots) {
    return;
  }
  Log("snapshot ", options.name.substr(0, 20), " of ", options.session);
  const auto info = mneme::KeepSnapshot(*engine_, options);
  if (Expect(info, wants)) {
    Answered(options.request, *info);
    Check(*session);
    Same("name of the snapshot", info->name, options.name);
    Same("automatic", info->automatic, false);
    Same("offset of the snapshot", info->offset, session->next_offset());
    Same("history_digest of the snapshot", info->history_digest,
         DigestOf(session->history.bytes()));
    Same("state_digest of the snapshot", info->state_digest,
         session->state_digest);
    session->snapshots[options.name] = {.history = session->history,
                                        .state_digest = session->state_digest};
  }
  if (session != nullptr) Check(*session);
}

void ApiCaller::DropSnapshot() {
  SnapshotOptions options;
  options.session = PickId();
  options.request = Tag<SnapshotInfo>();
  options.name = absl::StrCat("n", Draw(6));
  ModelSession* const session = FindSession(options.session);
  Wants wants = {{StatusCode::kOk}};
  if (session == nullptr) {
    wants = {{StatusCode::kNotFound}};
  } else if (session->snapshots.count(options.name) == 0) {
    wants = {{StatusCode::kNotFound, "SNAPSHOT_NOT_FOUND"}};
  }
  Log("drop snapshot ", options.name, " of ", options.session);
  const auto info = WaitFor<absl::StatusOr<SnapshotInfo>>(
      [&](const auto& done) { engine_->DeleteSnapshot(options, done); });
  if (Expect(info, wants)) {
    Answered(options.request, *info);
    Same("name of the snapshot", info->name, options.name);
    session->snapshots.erase(options.name);
  }
  if (session != nullptr) Check(*session);
}

void ApiCaller::ListSnapshots() {
  const std::string id = PickId();
  ModelSession* const session = FindSession(id);
  Log("list the snapshots of ", id);
  const auto listed = engine_->ListSnapshots(id);
  if (!Expect(listed, {{session == nullptr ? StatusCode::kNotFound
                                           : StatusCode::kOk}})) {
    return;
  }
  std::set<std::string> named;
  int64_t last = 0;
  const std::string bytes = session->history.bytes();
  for (const SnapshotInfo& info : *listed) {
    if (info.offset < last) Wrong("the snapshots are not in order");
    last = info.offset;
    Same("session of the snapshot", info.session, id);
    std::string wanted;
    if (info.automatic) {
      if (info.offset > session->next_offset()) {
        Wrong("snapshot " + info.name + " stands behind the history");
        return;
      }
      wanted = bytes.substr(0, info.offset * session->unit_bytes());
    } else {
      named.insert(info.name);
      const auto found = session->snapshots.find(info.name);
      if (found == session->snapshots.end()) {
        Wrong("snapshot " + info.name + " was not made");
        return;
      }
      wanted = found->second.history.bytes();
      Same("state_digest of the snapshot", info.state_digest,
           found->second.state_digest);
      Same("offset of the snapshot", info.offset * session->unit_bytes(),
           found->second.history.size());
    }
    Same(("history_digest of " + info.name).c_str(), info.history_digest,
         DigestOf(wanted));
  }
  Same("named snapshots", named.size(), session->snapshots.size());
}

// -- Taken back --------------------------------------------------------------

void ApiCaller::Fenced(ModelSession& session) {
  if (session.writer.stream == nullptr) return;
  Expect(session.writer.stream->Write({.offset = 0, .payload = "x"}),
         {{StatusCode::kAborted, "TAKEN_OVER"}});
  Expect(session.writer.stream->status(),
         {{StatusCode::kAborted, "TAKEN_OVER"}});
  session.writer.Close();
}

void ApiCaller::Moved(ModelSession& session, const SessionInfo& info) {
  Fenced(session);
  ++session.epoch;
  if (info.revision <= session.revision) Wrong("the revision stayed");
  session.revision = info.revision;
  CheckInfo(info, session);
}

void ApiCaller::Reset() {
  ResetOptions options;
  options.session = PickId();
  options.takeover = Chance(50);
  options.request = Tag<SessionInfo>();
  ModelSession* const session = FindSession(options.session);
  Wants wants = {{StatusCode::kOk}};
  if (session == nullptr) {
    wants = {{StatusCode::kNotFound}};
  } else if (session->writer.stream != nullptr && !options.takeover) {
    wants = {{StatusCode::kAborted, "SESSION_BUSY"}};
  }
  Log("reset ", options.session, options.takeover ? ", takeover" : "");
  const Infos info = mneme::Reset(*engine_, options);
  if (Expect(info, wants)) {
    Answered(options.request, *info);
    session->history = {};
    session->floor = 0;
    session->Changed();
    Moved(*session, *info);
  }
  if (session != nullptr) Check(*session);
}

void ApiCaller::Rollback() {
  RollbackOptions options;
  options.session = PickId();
  options.takeover = Chance(50);
  options.request = Tag<SessionInfo>();
  ModelSession* const session = FindSession(options.session);
  if (session == nullptr) {
    Log("rollback of ", options.session);
    Expect(mneme::Rollback(*engine_, options), {{StatusCode::kNotFound}});
    return;
  }
  const int64_t next = session->next_offset();
  const int64_t unit = session->unit_bytes();
  Wants wants = {{StatusCode::kOk}};
  ModelSnapshot target;
  bool across = false;  // a token goes across the offset
  const Wants not_kept = {{StatusCode::kOutOfRange, "OFFSET_NOT_KEPT"}};
  const int64_t kind = Draw(20);
  int64_t oldest = 0;
  if (kind < 7) {
    options.snapshot = PickSnapshot(*session);
    const auto found = FindSnapshot(*session, options.snapshot);
    if (!found.has_value()) {
      wants = {{StatusCode::kNotFound, "SNAPSHOT_NOT_FOUND"}};
    } else {
      target = *found;
    }
  } else if (kind == 7) {
    options.offset = -1 - Draw(5);
    wants = not_kept;
  } else if (kind == 8) {
    options.offset = next + 1 + Draw(5);
    wants = not_kept;
  } else {
    options.offset = kind == 9 ? 0 : kind == 10 ? next : Draw(next + 1);
    oldest = OldestKept(*session);
    const auto left =
        session->history.UpTo(options.offset * unit, session->floor);
    if (options.offset > 0 && options.offset * unit < session->floor) {
      wants = not_kept;
    } else if (!left.has_value()) {
      wants = not_kept;
      across = true;
    } else {
      target.history = *left;
      if (options.offset == next && next > 0) {
        target.state_digest = session->state_digest;
      }
      if (session->floor < oldest * unit &&
          session->history.HasEmptyOpAt(options.offset * unit)) {
        target.history.certain = false;
      }
      if (setup_.snapshots_kept < 100 && options.offset > 0 &&
          options.offset <= oldest) {
        wants.push_back(not_kept[0]);
      }
    }
  }
  const bool had_writer = session->writer.stream != nullptr;
  if (had_writer && !options.takeover) {
    if (wants[0].code == StatusCode::kOk) wants.erase(wants.begin());
    wants.push_back({StatusCode::kAborted, "SESSION_BUSY"});
  }
  Log("rollback of ", session->id, " at ", next, " to ", options.snapshot, " ",
      options.offset, options.takeover ? ", takeover" : "", ", floor ",
      session->floor / unit);
  const Infos info = mneme::Rollback(*engine_, options);
  if (!Expect(info, wants)) {
    if (across && had_writer && options.takeover &&
        absl::IsOutOfRange(info.status())) {
      // Those who were fenced were told of an epoch. What is older than all
      // that is kept is refused before.
      const Infos now = engine_->GetSession(session->id);
      if (now->epoch != session->epoch || options.offset > oldest) {
        Fenced(*session);
      }
      session->epoch = now->epoch;
      session->revision = now->revision;
    }
    const int64_t nearest = NearestOffset(info.status());
    if (absl::IsOutOfRange(info.status())) {
      if (nearest < 0 || nearest > next) {
        Wrong(absl::StrCat("the nearest offset is ", nearest));
      }
      if (options.offset > next) Same("nearest_offset", nearest, next);
      if (options.offset < 0) Same("nearest_offset", nearest, 0);
      if (!session->history.UpTo(nearest * unit, session->floor).has_value()) {
        Wrong("the nearest offset is inside a token");
      }
    }
    Check(*session);
    return;
  }
  Answered(options.request, *info);
  session->history = target.history;
  session->state_digest = target.state_digest;
  if (!options.snapshot.empty()) {
    session->floor = target.history.size();
    session->history.base_ops = target.history.ops.size();
  } else if (options.offset == 0) {
    session->floor = 0;
  }
  Moved(*session, *info);
  Check(*session);
}

// -- Carried elsewhere -------------------------------------------------------

void ApiCaller::Export() {
  const std::string id = PickId();
  ModelSession* const session = FindSession(id);
  std::string name;
  Wants wants = {{StatusCode::kOk}};
  ModelSnapshot of;
  if (session == nullptr) {
    wants = {{StatusCode::kNotFound}};
  } else {
    of = {.history = session->history, .state_digest = session->state_digest};
    if (Chance(40)) {
      name = PickSnapshot(*session);
      const auto found = FindSnapshot(*session, name);
      if (found.has_value()) of = *found;
      if (!found.has_value()) {
        wants = {{StatusCode::kNotFound, "SNAPSHOT_NOT_FOUND"}};
      }
    }
  }
  MayLackMemory(wants);
  Log("export ", id, "/", name);
  using Exports = absl::StatusOr<std::unique_ptr<SessionExport>>;
  const Exports exported = WaitFor<Exports>(
      [&](const auto& done) { engine_->ExportSession(id, name, done); });
  if (Expect(exported, wants)) {
    File file{.bytes = "",
              .model = session->model,
              .unit = session->unit,
              .history = of.history,
              .state_digest = of.state_digest,
              .labels = session->labels,
              .ttl = session->ttl};
    const int64_t total = (*exported)->total_bytes();
    while (static_cast<int64_t>(file.bytes.size()) < total) {
      const std::string_view piece = (*exported)->Read(
          static_cast<int64_t>(file.bytes.size()), 1 + Draw(100000));
      if (piece.empty()) break;
      file.bytes += std::string(piece);
    }
    Same("bytes of the file", static_cast<int64_t>(file.bytes.size()), total);
    file_ = std::move(file);
  }
  if (session != nullptr) Check(*session);
}

void ApiCaller::Import() {
  if (!file_.has_value()) return;
  ImportOptions options;
  options.id = absl::StrCat("s", Draw(7));
  options.request = Tag<SessionInfo>();
  if (Chance(50)) options.model = file_->model;
  if (Chance(30)) options.labels = DrawLabels(/*good=*/true);
  if (Chance(30)) options.ttl = absl::Hours(1);
  Wants begun = {{StatusCode::kOk}};
  Wants wants = {{StatusCode::kOk}};
  std::string bytes = file_->bytes;
  const int64_t fault = Draw(10);
  if (fault == 0) {
    options.id = PickBadId();
    begun = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
  } else if (fault == 1) {
    options.labels = DrawLabels(/*good=*/false);
    begun = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
  } else if (fault == 2) {
    bytes.resize(Draw(static_cast<int64_t>(bytes.size())));
    wants = {{StatusCode::kInvalidArgument}, {StatusCode::kDataLoss}};
  } else if (fault == 3 || fault == 4) {
    const int64_t most = static_cast<int64_t>(bytes.size());
    bytes[Draw(Chance(50) ? 64 : most)] ^= static_cast<char>(1 << Draw(8));
    wants = {{StatusCode::kInvalidArgument},
             {StatusCode::kDataLoss},
             {StatusCode::kFailedPrecondition, "STATE_INCOMPATIBLE"},
             {StatusCode::kResourceExhausted, "RAM_BUDGET"}};
  } else if (fault == 5) {
    options.model = file_->model == "ttt" ? "infini" : "ttt";
    wants = {{StatusCode::kFailedPrecondition, "STATE_INCOMPATIBLE"}};
  } else if (fault == 6) {
    bytes += "x";
    wants = {{StatusCode::kInvalidArgument}, {StatusCode::kDataLoss}};
  }
  if (FindSession(options.id) != nullptr) {
    if (begun[0].code == StatusCode::kOk) begun.clear();
    begun.push_back({StatusCode::kAlreadyExists});
  } else if (sessions_.size() >= kMostSessions) {
    return;
  }
  MayLackMemory(begun);
  MayLackMemory(wants);
  Log("import of ", file_->model, " as ", options.id.substr(0, 20), " fault ",
      fault);
  auto import = engine_->ImportSession(options);
  if (!Expect(import, begun)) return;
  absl::Status status;
  for (size_t at = 0; at < bytes.size() && status.ok();) {
    const size_t count = std::min<size_t>(bytes.size() - at, 1 + Draw(60000));
    status = (*import)->Add(std::string_view(bytes).substr(at, count));
    at += count;
  }
  const Infos info = status.ok() ? mneme::Finish(**import) : Infos(status);
  if (!Expect(info, wants)) {
    Expect(engine_->GetSession(options.id), {{StatusCode::kNotFound}});
    return;
  }
  Answered(options.request, *info);
  const ModelSnapshot base{.history = file_->history,
                           .state_digest = file_->state_digest};
  ModelSession& made = Made(*info, file_->model, file_->unit, &base);
  made.labels = options.labels.empty() ? file_->labels : options.labels;
  made.ttl = options.ttl == absl::ZeroDuration() ? file_->ttl : options.ttl;
  CheckInfo(*info, made);
  Check(made);
}

void ApiCaller::Verify() {
  const std::string id = PickId();
  Log("verify ", id);
  Expect(
      WaitFor<absl::Status>(
          [&](const auto& done) { engine_->VerifySession(id, done); }),
      {{FindSession(id) == nullptr ? StatusCode::kNotFound : StatusCode::kOk}});
}

}  // namespace mneme
