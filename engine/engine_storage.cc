// SPDX-License-Identifier: Apache-2.0
//
// The engine's sessions as stored things: forked, taken back, kept, carried
// elsewhere.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/engine_impl.h"
#include "engine/model/model.h"
#include "engine/runtime/held_session.h"
#include "engine/runtime/requests.h"
#include "engine/runtime/session_export.h"
#include "engine/runtime/session_snapshot.h"

namespace mneme {
namespace {

SnapshotInfo ToInfo(const Session& session, const StoredSnapshot& snapshot) {
  return {.session = session.id(),
          .name = SnapshotName(snapshot),
          .offset = snapshot.offset,
          .position = snapshot.position,
          .state_digest = snapshot.state_digest,
          .history_digest = snapshot.history_digest,
          .stored_bytes = snapshot.stored_bytes,
          .automatic = snapshot.name.empty(),
          .create_time = snapshot.create_time,
          .model_fingerprint = snapshot.model_fingerprint};
}

ExportHeader HeaderOf(const SessionInfo& session, const StoredSnapshot& of,
                      const SnapshotHeader& snapshot, absl::Duration ttl) {
  return {.session = session.id,
          .uid = session.uid,
          .model = session.model,
          .snapshot = snapshot,
          .state_digest = of.state_digest,
          .history_digest = of.history_digest,
          .labels = session.labels,
          .ttl = ttl,
          .creation_time = session.create_time};
}

class Exported final : public SessionExport {
 public:
  Exported(ExportFile file, ByteBudget::Reservation reservation)
      : file_(std::move(file)), reservation_(std::move(reservation)) {}

  int64_t total_bytes() const override { return file_.total_bytes(); }
  std::string_view Read(int64_t offset, int64_t bytes) const override {
    return file_.Read(offset, bytes);
  }

 private:
  const ExportFile file_;
  const ByteBudget::Reservation reservation_;
};

}  // namespace

// -- Fork --------------------------------------------------------------------

void EngineImpl::ForkFrom(Session& source, const StoredSnapshot* base,
                          const ForkOptions& options, Done<SessionInfo> done) {
  const std::shared_ptr<const ServedModel> model = source.served_ptr();
  absl::StatusOr<SessionRecord> record =
      NewRecord(options.id, options.labels, options.ttl, *model, source.unit());
  if (!record.ok()) {
    done(record.status());
    return;
  }
  const SessionInfo like = source.Info();
  record->snapshot_interval_tokens = like.snapshot_interval_tokens;
  record->pinned = like.pinned;
  if (base != nullptr) BeginAt(*base, *record);
  AddSession(*std::move(record), model, options.request,
             SessionEventKind::kFork, std::move(done));
}

void EngineImpl::ForkSession(const ForkOptions& options,
                             Done<SessionInfo> done) {
  const absl::StatusOr<std::shared_ptr<Session>> source =
      FindSession(options.source, "");
  absl::Status refused = source.status();
  if (refused.ok()) refused = CheckAdmitting();
  if (refused.ok()) refused = BindModel(**source);
  if (refused.ok() && !options.id.empty() && sessions_.Contains(options.id)) {
    refused = absl::AlreadyExistsError(
        absl::StrCat("session ", options.id, " exists already"));
  }
  if (!refused.ok()) {
    done(Rejected("", refused));
    return;
  }
  Session& session = **source;
  if (!options.snapshot.empty()) {
    const absl::StatusOr<StoredSnapshot> base =
        FindSnapshot(session.record(), options.snapshot);
    if (!base.ok()) {
      done(base.status());
      return;
    }
    ForkFrom(session, &*base, options, std::move(done));
    return;
  }
  WithQuiet(
      *source, [this, options, done](absl::Status status, Session& quiet) {
        if (!status.ok()) {
          done(status);
          return;
        }
        if (quiet.Untouched()) {
          ForkFrom(quiet, nullptr, options, done);
          return;
        }
        const absl::StatusOr<StoredSnapshot> base = quiet.KeepSnapshot("", {});
        if (!base.ok()) {
          done(base.status());
          return;
        }
        ForkFrom(quiet, &*base, options, done);
      });
}

// -- Taken back --------------------------------------------------------------

void EngineImpl::EditSession(const std::string& id, SessionEventKind event,
                             const Done<SessionInfo>& done,
                             std::function<absl::Status(Session&)> edit) {
  const absl::StatusOr<std::shared_ptr<Session>> found = FindSession(id, "");
  if (!found.ok()) {
    done(found.status());
    return;
  }
  waits_.Post([this, session = *found, event, done, edit = std::move(edit)] {
    const absl::Status status = edit(*session);
    if (!status.ok()) {
      done(status);
      return;
    }
    observer_->OnSessionEvent(session->model_name(), event);
    // It is done, whether or not it can be loaded again now.
    TellLoaded(session, done);
  });
}

void EngineImpl::ResetSession(const ResetOptions& options,
                              Done<SessionInfo> done) {
  EditSession(options.session, SessionEventKind::kReset, done,
              [options](Session& session) { return session.Reset(options); });
}

void EngineImpl::RollbackSession(const RollbackOptions& options,
                                 Done<SessionInfo> done) {
  EditSession(
      options.session, SessionEventKind::kRollback, done,
      [options](Session& session) { return session.Rollback(options); });
}

// -- Snapshots ---------------------------------------------------------------

void EngineImpl::CreateSnapshot(const SnapshotOptions& options,
                                Done<SnapshotInfo> done) {
  const absl::StatusOr<std::shared_ptr<Session>> found =
      FindSession(options.session, "");
  absl::Status refused = found.status();
  SnapshotOptions wanted = options;
  if (wanted.name.empty()) wanted.name = absl::StrCat("s", RandomHex(1));
  if (refused.ok()) refused = CheckId("snapshot_id", wanted.name);
  if (refused.ok() && wanted.name.rfind("auto-", 0) == 0) {
    refused = BadField("snapshot_id",
                       "found a name that begins with \"auto-\", "
                       "which are the server's own");
  }
  if (!refused.ok()) {
    done(refused);
    return;
  }
  WithQuiet(*found, [this, wanted, done](absl::Status status, Session& quiet) {
    if (!status.ok()) {
      done(status);
      return;
    }
    const absl::StatusOr<StoredSnapshot> kept =
        quiet.KeepSnapshot(wanted.name, [&](const StoredSnapshot& snapshot) {
          return Remember(wanted.request, ToInfo(quiet, snapshot),
                          clock_->Now());
        });
    if (!kept.ok()) {
      done(kept.status());
    } else {
      done(ToInfo(quiet, *kept));
    }
  });
}

absl::StatusOr<std::vector<SnapshotInfo>> EngineImpl::ListSnapshots(
    const std::string& session) const {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Session> found,
                         FindSession(session, ""));
  std::vector<SnapshotInfo> infos;
  for (const StoredSnapshot& snapshot : found->Snapshots()) {
    infos.push_back(ToInfo(*found, snapshot));
  }
  return infos;
}

void EngineImpl::DeleteSnapshot(const SnapshotOptions& options,
                                Done<SnapshotInfo> done) {
  const absl::StatusOr<std::shared_ptr<Session>> found =
      FindSession(options.session, "");
  if (!found.ok()) {
    done(found.status());
    return;
  }
  io_.Post([this, session = *found, options, done] {
    SnapshotInfo dropped;
    const absl::Status status = session->DropSnapshot(
        options.name, [&](const StoredSnapshot& snapshot) {
          dropped = ToInfo(*session, snapshot);
          return Remember(options.request, dropped, clock_->Now());
        });
    if (!status.ok()) {
      done(status);
    } else {
      done(dropped);
    }
  });
}

// -- Carried elsewhere -------------------------------------------------------

void EngineImpl::ExportSession(const std::string& id,
                               const std::string& snapshot,
                               Done<std::unique_ptr<SessionExport>> done) {
  const absl::StatusOr<std::shared_ptr<Session>> found = FindSession(id, "");
  absl::Status refused = found.status();
  if (refused.ok()) refused = BindModel(**found);
  if (!refused.ok()) {
    done(refused);
    return;
  }
  // The file of what is in `contents`; its bytes are paid for by `room`.
  auto finish = [this, done](Session& session, const StoredSnapshot& of,
                             absl::StatusOr<std::string> contents,
                             ByteBudget::Reservation room) {
    if (!contents.ok()) {
      done(contents.status());
      return;
    }
    const absl::StatusOr<SessionSnapshot> pieces = DecodeSnapshot(*contents);
    if (!pieces.ok()) {
      done(pieces.status());
      return;
    }
    const ExportHeader header =
        HeaderOf(session.Info(), of, pieces->header, session.record().ttl);
    observer_->OnSessionEvent(session.model_name(), SessionEventKind::kExport);
    done(std::make_unique<Exported>(ExportFile(header, *std::move(contents)),
                                    std::move(room)));
  };
  const int64_t bytes =
      (*found)->served().model->layout()->state_bytes() + kExportBesideState;
  io_.Post([this, session = *found, snapshot, done, finish, bytes] {
    absl::StatusOr<ByteBudget::Reservation> room =
        residency_.Reserve(bytes, "an export");
    if (!room.ok()) {
      done(room.status());
      return;
    }
    if (!snapshot.empty()) {
      const absl::StatusOr<StoredSnapshot> kept =
          FindSnapshot(session->record(), snapshot);
      if (!kept.ok()) {
        done(kept.status());
        return;
      }
      std::string contents;
      const absl::Status read = store_->ReadBlob(kept->blob, contents);
      finish(
          *session, *kept,
          read.ok() ? absl::StatusOr<std::string>(std::move(contents)) : read,
          *std::move(room));
      return;
    }
    auto held_room =
        std::make_shared<ByteBudget::Reservation>(*std::move(room));
    WithQuiet(session, [done, finish, held_room](absl::Status status,
                                                 Session& quiet) {
      if (!status.ok()) {
        done(status);
        return;
      }
      absl::StatusOr<Session::Contents> contents = quiet.QuietContents();
      if (!contents.ok()) {
        done(contents.status());
        return;
      }
      finish(quiet, contents->snapshot, std::move(contents->bytes),
             std::move(*held_room));
    });
  });
}

void EngineImpl::VerifySession(const std::string& id,
                               std::function<void(absl::Status)> done) {
  const absl::StatusOr<std::shared_ptr<Session>> found = FindSession(id, "");
  if (!found.ok()) {
    done(found.status());
    return;
  }
  io_.Post([this, session = *found, done] {
    absl::Status status = store_->VerifySession(session->uid());
    const SessionRecord record = session->record();
    std::string contents;
    const auto look = [&](const StoredSnapshot& snapshot) {
      // The store has told of one that cannot be read.
      if (!store_->ReadBlob(snapshot.blob, contents).ok()) return;
      const absl::StatusOr<SessionSnapshot> pieces = DecodeSnapshot(contents);
      if (pieces.ok()) return;
      status.Update(absl::DataLossError(
          absl::StrCat("snapshot ", SnapshotName(snapshot), ": ",
                       std::string(pieces.status().message()))));
    };
    for (const StoredSnapshot& snapshot : record.ring) look(snapshot);
    for (const auto& [name, snapshot] : record.named) look(snapshot);
    if (status.ok() && !record.quarantine.empty()) {
      status = absl::DataLossError(
          absl::StrCat("it is quarantined: ", record.quarantine));
    }
    done(status);
  });
}

absl::StatusOr<std::unique_ptr<SessionWatch>> EngineImpl::WatchSession(
    const std::string& id, StreamListener* listener) {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                         FindSession(id, ""));
  return session->Watch(listener);
}

}  // namespace mneme
