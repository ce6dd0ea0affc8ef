// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/errors.h"
#include "engine/base/log.h"
#include "engine/base/machine.h"
#include "engine/base/status_macros.h"
#include "engine/base/wait_for.h"
#include "engine/engine_impl.h"
#include "engine/model/model.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/ops/reference/reference_backend.h"
#include "engine/store/open_store.h"
#include "engine/store/salvage_store.h"

namespace mneme {
namespace {

// How long sessions may take to be written that are in memory at the end.
constexpr absl::Duration kLeaveTime = absl::Seconds(3);

absl::Status Draining() {
  return WithReason(absl::UnavailableError("the server is draining"),
                    {.reason = "DRAINING", .metadata = {}});
}

absl::StatusOr<std::unique_ptr<SessionStore>> OpenStore(
    const EngineOptions& options) {
  if (options.data_directory.empty()) {
    return MakeMemoryStore({.max_bytes = options.store_bytes > 0
                                             ? options.store_bytes
                                             : options.session_memory_bytes,
                            .clock = options.clock});
  }
  if (options.salvage) {
    SalvageReport report;
    MNEME_RETURN_IF_ERROR(SalvageStore(options.data_directory, {}, report));
    for (const std::string& action : report.actions) {
      LogWarning("salvage: ", action);
    }
    LogWarning("salvage: ", report.sessions, " sessions are whole, ",
               report.quarantined.size(), " are quarantined, ",
               report.unreadable.size(), " cannot be read");
  }
  return OpenRocksDbStore(
      options.data_directory,
      {.max_bytes = options.store_bytes, .clock = options.clock});
}

}  // namespace

std::string EngineImpl::RandomHex(int words) {
  absl::MutexLock lock(&mutex_);
  std::string hex;
  for (int i = 0; i < words; ++i) {
    absl::StrAppendFormat(&hex, "%016x", absl::Uniform<uint64_t>(random_));
  }
  return hex;
}

absl::Status EngineImpl::Rejected(const std::string& model,
                                  absl::Status status) const {
  const absl::optional<ErrorReason> reason = GetReason(status);
  if (reason.has_value()) observer_->OnRejected(model, reason->reason);
  return status;
}

absl::Status EngineImpl::CheckAdmitting() const {
  absl::MutexLock lock(&mutex_);
  return draining_ ? Draining() : absl::OkStatus();
}

absl::Status EngineImpl::CheckOpen() const {
  absl::MutexLock lock(&mutex_);
  return closed_ ? Draining() : absl::OkStatus();
}

EngineImpl::EngineImpl(const EngineOptions& options,
                       std::unique_ptr<Backend> backend,
                       std::unique_ptr<SessionStore> store)
    : threads_(options.threads),
      model_settings_(options.model_settings),
      limits_{.snapshot_interval_tokens = options.snapshot_interval_tokens,
              .snapshots_kept = options.snapshots_kept,
              .stored_bytes = options.session_store_bytes},
      clock_(options.clock),
      observer_(options.observer != nullptr ? options.observer : &no_observer_),
      backend_(std::move(backend)),
      budget_(options.session_memory_bytes),
      index_(std::numeric_limits<int64_t>::max()),
      store_(std::move(store)),
      residency_(&budget_),
      rooms_(&residency_, clock_),
      scheduler_(clock_, observer_),
      waits_(kThreadsThatWait),
      io_(kIoThreads),
      housekeeper_(std::chrono::seconds(1), [this] { Tick(); }) {}

EngineImpl::~EngineImpl() {
  Drain(absl::InfinitePast());
  Close();
  // Generations without a stream hold their sessions until they have ended.
  tasks_.AwaitNone(absl::InfiniteFuture());
  rooms_.Stop();
  waits_.Stop();
  io_.Stop();
  store_->AwaitWrites();  // which tell sessions, and those the engine
}

absl::Status EngineImpl::AddFound(FoundSession found) {
  SessionRecord& record = found.record;
  if (record.quarantine.empty()) record.quarantine = found.damage;
  MNEME_ASSIGN_OR_RETURN(ByteBudget::Reservation index,
                         budget_.Reserve(Session::IndexBytes(record),
                                         "the stored sessions' entries"));
  const std::shared_ptr<Session> session =
      MakeSession(std::move(found), nullptr, std::move(index));
  absl::Status inserted = sessions_.Insert(session, /*found=*/true);
  if (absl::IsAlreadyExists(inserted)) {
    // The older one was gone when the other was made, but not from the store.
    MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Session> other,
                           sessions_.Find(session->id()));
    const bool newer = session->Info().create_time > other->Info().create_time;
    const std::shared_ptr<Session>& gone = newer ? other : session;
    LogWarning("session ", gone->id(), " of uid ", gone->uid(),
               " was deleted: what was left of it is removed");
    Erase(gone->uid());
    if (!newer) return absl::OkStatus();
    sessions_.Remove(other);
    inserted = sessions_.Insert(session, /*found=*/true);
  }
  sessions_.ExpireAt(session, session->ExpiresAt());
  return inserted;
}

absl::Status EngineImpl::ReadStore() {
  absl::Status refused;
  int64_t quarantined = 0;
  MNEME_RETURN_IF_ERROR(store_->ReadSessions(
      [&](FoundSession found) {
        if (!found.damage.empty() || !found.record.quarantine.empty()) {
          ++quarantined;
        }
        refused.Update(AddFound(std::move(found)));
      },
      [&](const std::string& uid, const absl::Status& error) {
        ++quarantined;
        LogError("the store's session ", uid, ": ", error.ToString());
      }));
  MNEME_RETURN_IF_ERROR(refused);
  MNEME_ASSIGN_OR_RETURN(std::vector<RememberedRequest> requests,
                         store_->ReadRequests());
  absl::MutexLock lock(&mutex_);
  for (RememberedRequest& request : requests) {
    answered_.push_back({.id = std::move(request.id),
                         .digest = std::move(request.digest),
                         .reply = std::move(request.reply),
                         .time = request.time});
  }
  if (sessions_.size() > 0) {
    LogInfo("the store has ", sessions_.size(), " sessions, ", quarantined,
            " of them damaged");
  }
  return absl::OkStatus();
}

std::vector<AnsweredRequest> EngineImpl::TakeAnsweredRequests() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(answered_, {});
}

absl::Status EngineImpl::SetSessionMemory(int64_t bytes) {
  if (bytes <= 0) {
    return BadField("session_memory_bytes",
                    absl::StrCat("found ", bytes, ", wanted 1 or more"));
  }
  if (residency_.SetLimit(bytes)) return absl::OkStatus();
  const std::string used = absl::StrCat(budget_.used_bytes());
  return WithReason(
      absl::FailedPreconditionError(
          absl::StrCat("session memory: ", used, " bytes are in use, found ",
                       bytes, "; delete sessions first")),
      {.reason = "BUDGET_IN_USE", .metadata = {{"used_bytes", used}}});
}

EngineStats EngineImpl::stats() const {
  EngineStats stats;
  stats.threads = threads_;
  stats.arithmetic_level = backend_->arithmetic_level();
  stats.session_memory_used_bytes = budget_.used_bytes();
  stats.session_memory_limit_bytes = budget_.limit_bytes();
  stats.waiting_sessions = scheduler_.waiting();
  stats.generations = tasks_.Count(SessionActivity::kGenerating);
  stats.sessions = sessions_.size();
  stats.index_bytes = index_.used_bytes();
  const StoreStats store = store_->stats();
  stats.store_bytes = store.used_bytes;
  stats.store_limit_bytes = store.limit_bytes;
  stats.store_memory_bytes =
      store_->durable() ? RocksDbKvStore::kMemoryBytes : store.limit_bytes;
  stats.durable_lag_bytes = store.waiting_bytes;
  stats.store_writable = store.writable;
  absl::MutexLock lock(&mutex_);
  for (const auto& [name, served] : models_) {
    if (served == nullptr) continue;
    const int64_t hot = served->hot_sessions->load(std::memory_order_relaxed);
    stats.models.push_back(
        {.model = name,
         .sessions = sessions_.CountOf(*served),
         .hot_sessions = hot,
         .state_bytes = hot * served->model->layout()->state_bytes()});
  }
  return stats;
}

int64_t EngineImpl::Drain(absl::Time deadline) {
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
  }
  const std::vector<std::shared_ptr<Task>> left = tasks_.AwaitNone(deadline);
  for (const std::shared_ptr<Task>& task : left) {
    task->Abort(Draining(), Task::AbortIf::kWaiting);
    task->Cancel();  // if it is at work
    WakeLane(scheduler_, *task);
  }
  calls_.AwaitNone(deadline);
  residency_.EvictAll(*clock_, std::max(deadline, clock_->Now()) + kLeaveTime);
  return static_cast<int64_t>(left.size());
}

void EngineImpl::Close() {
  // Streams may have held some until now.
  residency_.EvictAll(*clock_, clock_->Now() + kLeaveTime);
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
    closed_ = true;
  }
  std::string last;
  while (true) {
    const std::vector<std::shared_ptr<Session>> chunk =
        sessions_.List(last, kListChunk);
    for (const std::shared_ptr<Session>& session : chunk) {
      session->Close(Draining());
    }
    if (static_cast<int64_t>(chunk.size()) < kListChunk) return;
    last = chunk.back()->id();
  }
}

absl::StatusOr<SessionInfo> Engine::CreateSession(
    const CreateSessionOptions& options) {
  return WaitFor<absl::StatusOr<SessionInfo>>(
      [&](Done<SessionInfo> done) { CreateSession(options, std::move(done)); });
}

absl::StatusOr<SessionInfo> Engine::UpdateSession(
    const UpdateSessionOptions& options) {
  return WaitFor<absl::StatusOr<SessionInfo>>(
      [&](Done<SessionInfo> done) { UpdateSession(options, std::move(done)); });
}

absl::StatusOr<std::unique_ptr<SessionImport>> Engine::ImportSession(
    const ImportOptions& options) {
  return WaitFor<absl::StatusOr<std::unique_ptr<SessionImport>>>(
      [&](Done<std::unique_ptr<SessionImport>> done) {
        ImportSession(options, std::move(done));
      });
}

absl::Status Engine::DeleteSession(const std::string& id,
                                   const std::string& uid) {
  return WaitFor<absl::StatusOr<SessionInfo>>([&](Done<SessionInfo> done) {
           DeleteSession({.session = id, .uid = uid, .request = {}},
                         std::move(done));
         })
      .status();
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineOptions& options) {
  if (options.threads < 0 || options.threads > 1024) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads is ", options.threads, ", want 0 to 1024"));
  }
  if (options.session_memory_bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("session memory is ",
                                                   options.session_memory_bytes,
                                                   " bytes, want 0 or more"));
  }
  const int threads = options.threads > 0 ? options.threads : CoreCount();
  std::unique_ptr<Backend> backend;
  if (options.backend == "cpu") {
    backend = MakeCpuBackend(threads);
  } else if (options.backend == "reference") {
    backend = MakeReferenceBackend();
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        "backend is \"", options.backend, "\", want \"cpu\" or \"reference\""));
  }
  if (options.snapshot_interval_tokens < 1 || options.snapshots_kept < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("snapshot interval is ", options.snapshot_interval_tokens,
                     " tokens, snapshots kept ", options.snapshots_kept,
                     "; want 1 or more each"));
  }
  EngineOptions settled = options;
  settled.threads = threads;
  if (settled.session_memory_bytes == 0) {
    settled.session_memory_bytes = MemoryBytes() / 2;
  }
  MNEME_ASSIGN_OR_RETURN(std::unique_ptr<SessionStore> store,
                         OpenStore(settled));
  auto engine = std::make_unique<EngineImpl>(settled, std::move(backend),
                                             std::move(store));
  MNEME_RETURN_IF_ERROR(engine->ReadStore());
  return engine;
}

}  // namespace mneme
