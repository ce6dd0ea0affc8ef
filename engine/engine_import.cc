// SPDX-License-Identifier: Apache-2.0
//
// Sessions that come as files.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/engine_impl.h"
#include "engine/model/model.h"
#include "engine/runtime/requests.h"
#include "engine/runtime/session_export.h"
#include "engine/runtime/session_snapshot.h"

namespace mneme {

class EngineImpl::Import final : public SessionImport {
 public:
  Import(EngineImpl* engine, ImportOptions options, int64_t most,
         ByteBudget::Reservation room)
      : engine_(engine),
        options_(std::move(options)),
        room_(std::make_shared<ByteBudget::Reservation>(std::move(room))),
        reader_(std::make_shared<ExportReader>(most)) {}

  absl::Status Add(std::string_view bytes) override {
    return reader_->Add(bytes);
  }
  void Finish(Done<SessionInfo> done) override {
    engine_->io_.Post([engine = engine_, options = options_, room = room_,
                       reader = reader_, done] {
      const absl::Status status = Take(*engine, options, *reader, done);
      if (!status.ok()) done(status);
    });
  }

 private:
  static absl::Status Take(EngineImpl& engine, const ImportOptions& options,
                           ExportReader& reader,
                           const Done<SessionInfo>& done) {
    MNEME_ASSIGN_OR_RETURN(ExportedSession exported, reader.Finish());
    const ExportHeader& header = exported.header;
    const std::string& wanted = header.snapshot.model_fingerprint;
    std::shared_ptr<const ServedModel> model;
    if (!options.model.empty()) {
      MNEME_ASSIGN_OR_RETURN(model, engine.FindModel(options.model));
    } else {
      MNEME_ASSIGN_OR_RETURN(model, engine.FindModelOf(wanted, header.model));
    }
    MNEME_ASSIGN_OR_RETURN(const SessionSnapshot snapshot,
                           DecodeSnapshot(exported.snapshot));
    MNEME_ASSIGN_OR_RETURN(
        const ByteBudget::Reservation trial_room,
        engine.residency_.Reserve(Session::HotBytes(*model), "an import"));
    MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<SessionState> state,
                           SessionState::Create(model->model->layout()));
    MNEME_ASSIGN_OR_RETURN(const RestoredSession restored,
                           RestoreSnapshot(snapshot, model, *state));
    const std::string pending =
        restored.input.idle() ? std::string(restored.input.bytes()) : "";
    // There is none of a state that had input before it.
    if ((!header.state_digest.empty() &&
         state->Digest(model->model->fingerprint(), pending) !=
             header.state_digest) ||
        restored.history.Digest() != header.history_digest) {
      return absl::DataLossError(
          "the file's digests are not those of what it holds");
    }
    MNEME_ASSIGN_OR_RETURN(
        SessionRecord record,
        engine.NewRecord(
            options.id, options.labels.empty() ? header.labels : options.labels,
            options.ttl == absl::ZeroDuration() ? header.ttl : options.ttl,
            *model, header.snapshot.unit));
    const auto stored_bytes = static_cast<int64_t>(exported.snapshot.size());
    MNEME_ASSIGN_OR_RETURN(const uint64_t blob,
                           engine.store_->WriteBlob(exported.snapshot));
    MNEME_RETURN_IF_ERROR(engine.store_->SyncBlob(blob));
    record.arithmetic_level = header.snapshot.arithmetic_level;
    BeginAt({.blob = blob,
             .offset = header.snapshot.offset,
             .position = header.snapshot.position,
             .pending_tokens = static_cast<int64_t>(state->tail().size()),
             .pending_bytes = static_cast<int64_t>(pending.size()),
             .state_digest = header.state_digest,
             .history_digest = header.history_digest,
             .model_fingerprint = wanted,
             .stored_bytes = stored_bytes,
             .create_time = engine.clock_->Now()},
            record);
    engine.AddSession(std::move(record), model, options.request,
                      SessionEventKind::kImport,
                      [&engine, blob, done](absl::StatusOr<SessionInfo> info) {
                        if (!info.ok()) engine.store_->DropBlob(blob);
                        done(std::move(info));
                      });
    return absl::OkStatus();
  }

  EngineImpl* const engine_;
  const ImportOptions options_;
  const std::shared_ptr<ByteBudget::Reservation> room_;
  const std::shared_ptr<ExportReader> reader_;
};

absl::StatusOr<std::shared_ptr<const ServedModel>> EngineImpl::FindModelOf(
    const std::string& fingerprint, const std::string& name) const {
  absl::MutexLock lock(&mutex_);
  std::string found = "none";
  for (const auto& [served_name, served] : models_) {
    if (served == nullptr) continue;
    found = served->model->fingerprint();
    if (found == fingerprint) return served;
  }
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat(
          "the file is of a session of model ", name, " with fingerprint ",
          fingerprint, ", which no model here has")),
      {.reason = "STATE_INCOMPATIBLE",
       .metadata = {{"found", fingerprint}, {"expected", found}}});
}

absl::Status EngineImpl::CheckImport(const ImportOptions& options) const {
  MNEME_RETURN_IF_ERROR(CheckAdmitting());
  if (!options.id.empty()) {
    MNEME_RETURN_IF_ERROR(CheckId("session_id", options.id));
    if (sessions_.Contains(options.id)) {
      return absl::AlreadyExistsError(
          absl::StrCat("session ", options.id, " exists already"));
    }
  }
  MNEME_RETURN_IF_ERROR(CheckLabels(options.labels));
  return CheckTtl(options.ttl);
}

void EngineImpl::ImportSession(const ImportOptions& options,
                               Done<std::unique_ptr<SessionImport>> done) {
  const absl::Status refused = CheckImport(options);
  if (!refused.ok()) {
    done(Rejected(options.model, refused));
    return;
  }
  int64_t most = kExportBesideState;
  for (const ModelInfo& model : ListModels()) {
    if (!options.model.empty() && options.model != model.name) continue;
    most = std::max(most, kExportBesideState + model.state_bytes);
  }
  WhenRoom(most, [this, options, most, done] {
    absl::StatusOr<ByteBudget::Reservation> room =
        residency_.Reserve(most, "an import");
    if (!room.ok()) {
      done(Rejected(options.model, room.status()));
    } else {
      done(std::make_unique<Import>(this, options, most, *std::move(room)));
    }
  });
}

}  // namespace mneme
