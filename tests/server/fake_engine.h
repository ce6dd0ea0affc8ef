// SPDX-License-Identifier: Apache-2.0
//
// An engine that computes nothing: tests say when input is absorbed, what is
// generated, and what fails. One stream of a kind at a time is enough.
#ifndef MNEME_TESTS_SERVER_FAKE_ENGINE_H_
#define MNEME_TESTS_SERVER_FAKE_ENGINE_H_

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/engine.h"

namespace mneme::server {

class FakeEngine final : public Engine {
 public:
  FakeEngine() { models_["tiny"] = MakeModel("tiny"); }

  static ModelInfo MakeModel(const std::string& name) {
    ModelInfo model;
    model.name = name;
    model.fingerprint = std::string(64, 'f');
    model.kind = "ttt";
    model.mixers = {"ttt_linear"};
    model.tokenizer = "bytes";
    model.state_bytes = 1000;
    model.weight_bytes = 5000;
    model.vocab_size = 256;
    model.bos_token = 7;
    return model;
  }

  // ---- What tests do.

  // How many segments append streams may take from now on.
  void SetCredit(int64_t segments) {
    absl::MutexLock lock(&mu_);
    credit_ = segments;
    NotifyAppend();
  }
  // Absorbs what append streams took.
  void Absorb() {
    absl::MutexLock lock(&mu_);
    for (auto& [id, session] : sessions_) {
      session.absorbed_offset = session.next_offset;
    }
    NotifyAppend();
  }
  // What is taken from now on is in the store once it is synced.
  void MakeDurable(const std::string& id) {
    absl::MutexLock lock(&mu_);
    sessions_.at(id).durability = Durability::kSynced;
  }
  void Sync() {
    absl::MutexLock lock(&mu_);
    for (auto& [id, session] : sessions_) {
      session.durable_offset = session.next_offset;
    }
    NotifyAppend();
  }
  void ChangeSession(const std::string& id,
                     const std::function<void(SessionInfo&)>& change) {
    absl::MutexLock lock(&mu_);
    change(sessions_.at(id));
  }
  // Whether sessions that are wanted stay on their way into memory.
  void HoldSessionLoads(bool hold) {
    std::vector<std::function<void()>> held;
    {
      absl::MutexLock lock(&mu_);
      hold_session_loads_ = hold;
      if (!hold) held = std::exchange(held_session_loads_, {});
    }
    for (const auto& load : held) load();
  }
  // Has forks wait, until Close refuses them.
  void HoldForks() {
    absl::MutexLock lock(&mu_);
    hold_forks_ = true;
  }
  bool AwaitFork() {
    return Await([this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
      return !held_forks_.empty();
    });
  }
  void FailNextSessionLoad(absl::Status status) {
    absl::MutexLock lock(&mu_);
    next_session_load_status_ = std::move(status);
  }
  static LoadReport Report() {
    return {.tier = StateTier::kReplayed,
            .load_time = absl::Seconds(2),
            .replayed_tokens = 42};
  }
  // What an export gives.
  void SetFile(std::string file) {
    absl::MutexLock lock(&mu_);
    file_ = std::move(file);
  }
  // Tells the watch of a session.
  void Happen(SessionEvent::Kind kind, const std::string& id) {
    const absl::StatusOr<SessionInfo> session = GetSession(id);
    absl::MutexLock lock(&mu_);
    if (watch_ == nullptr) return;
    happened_.push_back({.kind = kind, .session = *session, .detail = "why"});
    watch_->OnProgress();
  }
  void AddRemembered(AnsweredRequest request) {
    absl::MutexLock lock(&mu_);
    remembered_.push_back(std::move(request));
  }
  bool AwaitLoads(int64_t count) {
    return Await([this, count]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
      return loads_ == count;
    });
  }
  bool AwaitHolds(int64_t count) {
    return Await([this, count]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
      return holds_ == count;
    });
  }
  // Adds to the history as a generation would.
  void WriteElsewhere(const std::string& id, int64_t bytes) {
    absl::MutexLock lock(&mu_);
    SessionInfo& session = sessions_.at(id);
    session.next_offset += bytes;
    session.absorbed_offset = session.next_offset;
    NotifyAppend();
  }
  void SetActivity(const std::string& id, SessionActivity activity) {
    absl::MutexLock lock(&mu_);
    sessions_.at(id).activity = activity;
  }
  // Ends append streams.
  void FailAppend(absl::Status status) {
    absl::MutexLock lock(&mu_);
    append_status_ = std::move(status);
    NotifyAppend();
  }
  // Lets the running generation say something.
  void Say(GenerateEvent event) {
    absl::MutexLock lock(&mu_);
    events_.push_back(std::move(event));
    if (generation_ != nullptr) generation_->OnProgress();
  }
  void FailNextStream(absl::Status status) {
    absl::MutexLock lock(&mu_);
    next_stream_status_ = std::move(status);
  }
  void FailNextLoad(absl::Status status) {
    absl::MutexLock lock(&mu_);
    next_load_status_ = std::move(status);
  }
  void HoldLoads(bool hold) {
    absl::MutexLock lock(&mu_);
    hold_loads_ = hold;
  }
  // Whether DescribeSession waits with its answers.
  void HoldDescriptions(bool hold) {
    std::vector<std::function<void()>> held;
    {
      absl::MutexLock lock(&mu_);
      hold_descriptions_ = hold;
      if (!hold) held = std::exchange(held_descriptions_, {});
    }
    for (const auto& answer : held) answer();
  }
  // Every condition on the engine is awaited for 10 s at most.
  // That were begun.
  int scorings() const {
    absl::MutexLock lock(&mu_);
    return scorings_;
  }
  bool AwaitStreams(int64_t count) {
    return Await([this, count]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
      return streams_ == count;
    });
  }
  bool AwaitTaken(int64_t segments) {
    return Await([this, segments]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
      return taken_ == segments;
    });
  }
  bool AwaitDrain() {
    return Await([this]()
                     ABSL_SHARED_LOCKS_REQUIRED(mu_) { return draining_; });
  }
  // A generation was.
  bool AwaitCancelled() {
    return Await([this]()
                     ABSL_SHARED_LOCKS_REQUIRED(mu_) { return cancelled_; });
  }
  int64_t taken() {
    absl::MutexLock lock(&mu_);
    return taken_;
  }
  int64_t creates() {
    absl::MutexLock lock(&mu_);
    return creates_;
  }
  // Why the last generation's stream was given up, if it said so.
  absl::optional<FinishReason> disconnected() {
    absl::MutexLock lock(&mu_);
    return disconnected_;
  }
  GenerateOptions last_generate() {
    absl::MutexLock lock(&mu_);
    return last_generate_;
  }

  // ---- Engine.

  absl::Status LoadModel(const std::string& name,
                         const std::string& /*directory*/) override {
    absl::MutexLock lock(&mu_);
    const auto may_go_on = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
      return !hold_loads_;
    };
    mu_.Await(absl::Condition(&may_go_on));
    absl::Status status = std::exchange(next_load_status_, absl::OkStatus());
    if (status.ok()) models_[name] = MakeModel(name);
    return status;
  }
  absl::Status UnloadModel(const std::string& name, bool force) override {
    absl::MutexLock lock(&mu_);
    if (models_.count(name) == 0) return absl::NotFoundError("no such model");
    if (!force && !sessions_.empty()) {
      return WithReason(absl::FailedPreconditionError("it has sessions"),
                        {.reason = "MODEL_IN_USE", .metadata = {}});
    }
    sessions_.clear();
    models_.erase(name);
    return absl::OkStatus();
  }
  std::vector<ModelInfo> ListModels() const override {
    absl::MutexLock lock(&mu_);
    std::vector<ModelInfo> models;
    for (const auto& [name, model] : models_) models.push_back(model);
    return models;
  }
  // A token a byte.
  absl::StatusOr<std::vector<TextToken>> Tokenize(
      const std::string& model, std::string_view text) const override {
    MNEME_RETURN_IF_ERROR(GetModel(model).status());
    std::vector<TextToken> tokens;
    for (const char c : text) tokens.push_back({static_cast<uint8_t>(c), 1});
    return tokens;
  }
  absl::StatusOr<std::string> Detokenize(
      const std::string& model,
      const std::vector<int32_t>& tokens) const override {
    MNEME_RETURN_IF_ERROR(GetModel(model).status());
    return std::string(tokens.begin(), tokens.end());
  }

  absl::StatusOr<ModelInfo> GetModel(const std::string& name) const override {
    absl::MutexLock lock(&mu_);
    const auto found = models_.find(name);
    if (found == models_.end()) return absl::NotFoundError("no such model");
    return found->second;
  }

  using Engine::CreateSession;
  using Engine::DeleteSession;
  using Engine::UpdateSession;

  void CreateSession(const CreateSessionOptions& options,
                     Done<SessionInfo> done) override {
    done(Make(options.id, options.request,
              [&](SessionInfo& session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
                session.model = options.model;
                session.labels = options.labels;
                session.unit = options.unit.value_or(SessionUnit::kText);
                session.pinned = options.pinned;
                session.snapshot_interval_tokens =
                    options.snapshot_interval_tokens;
                return options.source_session.empty()
                           ? absl::OkStatus()
                           : TakeSnapshot(options.source_session,
                                          options.source_snapshot, &session);
              }));
  }
  void ForkSession(const ForkOptions& options,
                   Done<SessionInfo> done) override {
    {
      absl::MutexLock lock(&mu_);
      if (hold_forks_) {
        held_forks_.push_back([done] {
          done(WithReason(absl::UnavailableError("closed"),
                          {.reason = "DRAINING", .metadata = {}}));
        });
        return;
      }
    }
    done(Make(options.id, options.request,
              [&](SessionInfo& session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
                const auto source = sessions_.find(options.source);
                if (source == sessions_.end()) return NoSession();
                session.model = source->second.model;
                session.next_offset = source->second.next_offset;
                session.labels = options.labels;
                return options.snapshot.empty()
                           ? absl::OkStatus()
                           : TakeSnapshot(options.source, options.snapshot,
                                          &session);
              }));
  }
  void Load(const std::string& id, const std::string& uid,
            Done<std::shared_ptr<SessionHold>> done) override {
    const auto load = [this, id, uid, done] {
      absl::Status status;
      {
        absl::MutexLock lock(&mu_);
        status = std::exchange(next_session_load_status_, absl::OkStatus());
        const auto found = sessions_.find(id);
        if (status.ok() && found == sessions_.end()) status = NoSession();
        if (status.ok() && !uid.empty() && uid != found->second.uid) {
          status = absl::AbortedError("another uid");
        }
        if (status.ok()) ++holds_;
      }
      if (status.ok()) {
        done(std::make_shared<Hold>(this));
      } else {
        done(status);
      }
    };
    {
      absl::MutexLock lock(&mu_);
      ++loads_;
      if (hold_session_loads_) {
        held_session_loads_.push_back(load);
        return;
      }
    }
    load();
  }
  absl::StatusOr<SessionInfo> GetSession(const std::string& id) const override {
    absl::MutexLock lock(&mu_);
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return NoSession();
    return found->second;
  }
  void DescribeSession(
      const std::string& id,
      std::function<void(absl::StatusOr<SessionInfo>)> done) override {
    absl::StatusOr<SessionInfo> session = GetSession(id);
    if (session.ok()) session->state_digest = std::string(64, 'd');
    {
      absl::MutexLock lock(&mu_);
      if (hold_descriptions_) {
        held_descriptions_.push_back([done, session] { done(session); });
        return;
      }
    }
    done(session);
  }
  void UpdateSession(const UpdateSessionOptions& options,
                     Done<SessionInfo> done) override {
    done(Change(options.session, options.request, [&](SessionInfo& session) {
      if (options.labels.has_value()) session.labels = *options.labels;
      if (options.ttl.has_value()) {
        session.expire_time = session.update_time + *options.ttl;
      }
      if (options.pinned.has_value()) session.pinned = *options.pinned;
      session.snapshot_interval_tokens =
          options.snapshot_interval_tokens.value_or(
              session.snapshot_interval_tokens);
      ++session.revision;
      return absl::OkStatus();
    }));
  }
  void ResetSession(const ResetOptions& options,
                    Done<SessionInfo> done) override {
    done(Change(options.session, options.request, [&](SessionInfo& session) {
      if (!options.takeover && session.activity != SessionActivity::kIdle) {
        return absl::AbortedError("in use");
      }
      session.next_offset = 0;
      ++session.epoch;
      return absl::OkStatus();
    }));
  }
  void RollbackSession(const RollbackOptions& options,
                       Done<SessionInfo> done) override {
    done(Change(options.session, options.request,
                [&](SessionInfo& session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
                  if (!options.snapshot.empty()) {
                    return TakeSnapshot(options.session, options.snapshot,
                                        &session);
                  }
                  if (options.offset > session.next_offset) {
                    return WithReason(absl::OutOfRangeError("not kept"),
                                      {.reason = "OFFSET_NOT_KEPT",
                                       .metadata = {{"nearest_offset", "0"}}});
                  }
                  session.next_offset = options.offset;
                  ++session.epoch;
                  return absl::OkStatus();
                }));
  }
  void CreateSnapshot(const SnapshotOptions& options,
                      Done<SnapshotInfo> done) override {
    SnapshotInfo snapshot;
    const absl::StatusOr<SessionInfo> session = Change(
        options.session, {},
        [&](SessionInfo& of) ABSL_EXCLUSIVE_LOCKS_REQUIRED(
            mu_) -> absl::Status {
          snapshot = {.session = of.id,
                      .name = options.name.empty() ? "made" : options.name,
                      .offset = of.next_offset};
          for (const SnapshotInfo& other : snapshots_[of.id]) {
            if (other.name != snapshot.name) continue;
            return WithReason(absl::AlreadyExistsError("there is one"),
                              {.reason = "SNAPSHOT_EXISTS", .metadata = {}});
          }
          snapshots_[of.id].push_back(snapshot);
          Remember(options.request, snapshot);
          return absl::OkStatus();
        });
    if (session.ok()) {
      done(snapshot);
    } else {
      done(session.status());
    }
  }
  absl::StatusOr<std::vector<SnapshotInfo>> ListSnapshots(
      const std::string& session) const override {
    MNEME_RETURN_IF_ERROR(GetSession(session).status());
    absl::MutexLock lock(&mu_);
    const auto found = snapshots_.find(session);
    if (found == snapshots_.end()) return std::vector<SnapshotInfo>();
    return found->second;
  }
  void DeleteSnapshot(const SnapshotOptions& options,
                      Done<SnapshotInfo> done) override {
    SnapshotInfo snapshot;
    const absl::StatusOr<SessionInfo> session = Change(
        options.session, {},
        [&](SessionInfo& of)
            ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) -> absl::Status {
              SessionInfo taken;
              MNEME_RETURN_IF_ERROR(TakeSnapshot(of.id, options.name, &taken));
              auto& all = snapshots_[of.id];
              all.erase(std::find_if(all.begin(), all.end(), [&](auto& one) {
                return one.name == options.name;
              }));
              Remember(options.request, snapshot);
              return absl::OkStatus();
            });
    if (session.ok()) {
      done(snapshot);
    } else {
      done(session.status());
    }
  }
  void ExportSession(const std::string& id, const std::string& snapshot,
                     Done<std::unique_ptr<SessionExport>> done) override {
    absl::Status status = GetSession(id).status();
    absl::MutexLock lock(&mu_);
    SessionInfo taken;
    if (status.ok() && !snapshot.empty()) {
      status = TakeSnapshot(id, snapshot, &taken);
    }
    if (!status.ok()) return done(status);
    ++streams_;
    done(std::make_unique<Exporting>(this, file_));
  }
  void ImportSession(const ImportOptions& options,
                     Done<std::unique_ptr<SessionImport>> done) override {
    {
      absl::MutexLock lock(&mu_);
      if (sessions_.count(options.id) == 0) ++streams_;
    }
    if (sessions_.count(options.id) != 0) {
      return done(absl::AlreadyExistsError("there is one"));
    }
    done(std::make_unique<Importing>(this, options));
  }
  absl::StatusOr<std::unique_ptr<SessionWatch>> WatchSession(
      const std::string& id, StreamListener* listener) override {
    MNEME_ASSIGN_OR_RETURN(const SessionInfo session, GetSession(id));
    absl::MutexLock lock(&mu_);
    ++streams_;
    watch_ = listener;
    happened_.push_back({.kind = SessionEvent::Kind::kNow, .session = session});
    return std::make_unique<Watching>(this);
  }
  void VerifySession(const std::string& id,
                     std::function<void(absl::Status)> done) override {
    const absl::StatusOr<SessionInfo> session = GetSession(id);
    if (!session.ok()) return done(session.status());
    if (session->condition == SessionCondition::kActive) {
      done(absl::OkStatus());
    } else {
      done(absl::DataLossError(session->quarantine));
    }
  }
  std::vector<AnsweredRequest> TakeAnsweredRequests() override {
    absl::MutexLock lock(&mu_);
    return remembered_;
  }
  void CommitSegment(const SegmentCommitOptions& options,
                     Done<SegmentCommit> done) override {
    const absl::StatusOr<SessionInfo> session = GetSession(options.session);
    if (!session.ok()) return done(session.status());
    const SegmentCommit commit{
        .position = session->position, .segment_tokens = 3, .load = Report()};
    {
      absl::MutexLock lock(&mu_);
      Remember(options.request, commit);
    }
    done(commit);
  }
  std::vector<SessionInfo> ListSessions(
      const std::string& after, int64_t limit,
      const SessionFilter& filter) const override {
    absl::MutexLock lock(&mu_);
    std::vector<SessionInfo> page;
    for (auto it = sessions_.upper_bound(after);
         it != sessions_.end() && static_cast<int64_t>(page.size()) < limit;
         ++it) {
      if (filter.model.has_value() && *filter.model != it->second.model) {
        continue;
      }
      if (filter.tier.has_value() && *filter.tier != it->second.tier) continue;
      page.push_back(it->second);
    }
    return page;
  }
  void DeleteSession(const DeleteOptions& options,
                     Done<SessionInfo> done) override {
    const absl::StatusOr<SessionInfo> session =
        Change(options.session, options.request, [&](SessionInfo& found) {
          return options.uid.empty() || options.uid == found.uid
                     ? absl::OkStatus()
                     : absl::AbortedError("another uid");
        });
    if (session.ok()) {
      Happen(SessionEvent::Kind::kDeleted, options.session);
      absl::MutexLock lock(&mu_);
      sessions_.erase(options.session);
    }
    done(session);
  }

  absl::StatusOr<std::unique_ptr<AppendStream>> OpenAppend(
      const AppendOptions& options, StreamListener* listener) override {
    absl::MutexLock lock(&mu_);
    if (absl::Status status = TakeFailure(options.session); !status.ok()) {
      return status;
    }
    if (append_ != nullptr) {
      return WithReason(absl::AbortedError("another stream writes"),
                        {.reason = "SESSION_BUSY", .metadata = {}});
    }
    if (options.hold == nullptr) return WouldBlock();
    ++streams_;
    append_ = listener;
    return std::make_unique<Append>(this, sessions_.at(options.session),
                                    options.hold);
  }
  absl::StatusOr<std::unique_ptr<Generation>> Generate(
      const GenerateOptions& options, StreamListener* listener) override {
    absl::MutexLock lock(&mu_);
    if (absl::Status status = TakeFailure(options.session); !status.ok()) {
      return status;
    }
    if (options.hold == nullptr) return WouldBlock();
    ++streams_;
    generation_ = listener;
    last_generate_ = options;
    last_generate_.hold.reset();
    if (!events_.empty()) listener->OnProgress();
    return std::make_unique<Generating>(this, options.hold);
  }
  absl::StatusOr<std::unique_ptr<Scoring>> Score(
      const ScoreOptions& options, StreamListener* listener) override {
    absl::MutexLock lock(&mu_);
    if (absl::Status status = TakeFailure(options.session); !status.ok()) {
      return status;
    }
    if (options.hold == nullptr) return WouldBlock();
    ++streams_;
    ++scorings_;
    return std::make_unique<FakeScoring>(this, options.hold, listener);
  }

  absl::Status SetSessionMemory(int64_t bytes) override {
    if (bytes >= 1234) return absl::OkStatus();
    return absl::FailedPreconditionError("1234 bytes are in use");
  }
  EngineStats stats() const override {
    absl::MutexLock lock(&mu_);
    EngineStats stats;
    for (const auto& [name, model] : models_) {
      stats.models.push_back(
          {.model = name,
           .sessions = static_cast<int64_t>(sessions_.size()),
           .hot_sessions = 1,
           .state_bytes = 0});
    }
    stats.sessions = static_cast<int64_t>(sessions_.size()) + 1;
    stats.index_bytes = 77;
    stats.store_memory_bytes = 5;
    stats.store_bytes = 300;
    stats.durable_lag_bytes = 9;
    stats.session_memory_used_bytes = 1234;
    stats.session_memory_limit_bytes = 4096;
    return stats;
  }

  void Close() override {
    std::vector<std::function<void()>> held;
    {
      absl::MutexLock lock(&mu_);
      held = std::exchange(held_forks_, {});
    }
    for (const auto& refuse : held) refuse();
  }
  int64_t Drain(absl::Time deadline) override {
    absl::MutexLock lock(&mu_);
    draining_ = true;
    const auto ended = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
      return streams_ == 0;
    };
    mu_.AwaitWithDeadline(absl::Condition(&ended), deadline);
    return streams_;
  }

 private:
  class Hold final : public SessionHold {
   public:
    explicit Hold(FakeEngine* engine) : engine_(engine) {}
    ~Hold() override {
      absl::MutexLock lock(&engine_->mu_);
      --engine_->holds_;
    }
    const LoadReport& report() const override { return report_; }

   private:
    FakeEngine* const engine_;
    const LoadReport report_ = Report();
  };

  class Exporting final : public SessionExport {
   public:
    Exporting(FakeEngine* engine, std::string file)
        : engine_(engine), file_(std::move(file)) {}
    ~Exporting() override {
      absl::MutexLock lock(&engine_->mu_);
      --engine_->streams_;
    }
    int64_t total_bytes() const override {
      return static_cast<int64_t>(file_.size());
    }
    std::string_view Read(int64_t offset, int64_t bytes) const override {
      return std::string_view(file_).substr(static_cast<size_t>(offset),
                                            static_cast<size_t>(bytes));
    }

   private:
    FakeEngine* const engine_;
    const std::string file_;
  };

  // A file of at most 10 bytes, which is damaged if it says so.
  class Importing final : public SessionImport {
   public:
    Importing(FakeEngine* engine, ImportOptions options)
        : engine_(engine), options_(std::move(options)) {}
    ~Importing() override {
      absl::MutexLock lock(&engine_->mu_);
      --engine_->streams_;
    }
    absl::Status Add(std::string_view bytes) override {
      file_ += bytes;
      if (file_.size() <= 10) return absl::OkStatus();
      return WithReason(absl::ResourceExhaustedError("too large"),
                        {.reason = "RAM_BUDGET", .metadata = {}});
    }
    void Finish(Done<SessionInfo> done) override {
      if (file_ == "damaged") {
        return done(absl::DataLossError("the file is damaged"));
      }
      done(engine_->Make(
          options_.id, options_.request, [&](SessionInfo& session) {
            session.model = "tiny";
            session.next_offset = static_cast<int64_t>(file_.size());
            return absl::OkStatus();
          }));
    }

   private:
    FakeEngine* const engine_;
    const ImportOptions options_;
    std::string file_;
  };

  class Watching final : public SessionWatch {
   public:
    explicit Watching(FakeEngine* engine) : engine_(engine) {}
    ~Watching() override {
      absl::MutexLock lock(&engine_->mu_);
      engine_->watch_ = nullptr;
      --engine_->streams_;
    }
    absl::optional<SessionEvent> Poll() override {
      absl::MutexLock lock(&engine_->mu_);
      if (engine_->happened_.empty()) return absl::nullopt;
      SessionEvent event = std::move(engine_->happened_.front());
      engine_->happened_.pop_front();
      ended_ = event.kind == SessionEvent::Kind::kDeleted;
      return event;
    }
    bool ended() const override { return ended_; }

   private:
    FakeEngine* const engine_;
    bool ended_ = false;
  };

  class Append final : public AppendStream {
   public:
    Append(FakeEngine* engine, const SessionInfo& session,
           std::shared_ptr<SessionHold> hold)
        : engine_(engine), id_(session.id), hold_(std::move(hold)) {
      opened_.uid = session.uid;
      opened_.epoch = session.epoch;
      opened_.durability = session.durability;
      opened_.durable_offset = session.durable_offset;
      opened_.absorbed_offset = session.absorbed_offset;
      opened_.history_digest = std::string(64, 'h');
      opened_.load = Report();
      opened_.next_offset = session.next_offset;
      opened_.max_inflight_bytes = 4096;
      opened_.max_segment_bytes = 1024;
    }
    ~Append() override {
      absl::MutexLock lock(&engine_->mu_);
      engine_->append_ = nullptr;
      --engine_->streams_;
    }
    const AppendOpened& opened() const override { return opened_; }
    absl::StatusOr<Taken> Write(const Segment& segment) override {
      absl::MutexLock lock(&engine_->mu_);
      SessionInfo& session = engine_->sessions_.at(id_);
      if (engine_->credit_ == 0) return Taken{.offer = Offer::kLater};
      if (segment.offset > session.next_offset) {
        return WithReason(absl::OutOfRangeError("a gap"),
                          {.reason = "SEGMENT_GAP",
                           .metadata = {{"expected_offset",
                                         absl::StrCat(session.next_offset)}}});
      }
      --engine_->credit_;
      ++engine_->taken_;
      if (segment.offset < session.next_offset) return Taken{.duplicate = true};
      session.next_offset +=
          static_cast<int64_t>(std::get<std::string>(segment.payload).size());
      return Taken{};
    }
    AppendProgress progress() const override {
      absl::MutexLock lock(&engine_->mu_);
      const SessionInfo& session = engine_->sessions_.at(id_);
      return {.absorbed_offset = session.absorbed_offset,
              .durable_offset = session.durable_offset,
              .position = session.absorbed_offset,
              .tokens = session.absorbed_offset - opened_.absorbed_offset,
              .idle = session.absorbed_offset == session.next_offset};
    }
    bool writable() const override {
      absl::MutexLock lock(&engine_->mu_);
      return engine_->credit_ > 0;
    }
    absl::Status status() const override {
      absl::MutexLock lock(&engine_->mu_);
      return engine_->append_status_;
    }

   private:
    FakeEngine* const engine_;
    const std::string id_;
    const std::shared_ptr<SessionHold> hold_;
    AppendOpened opened_;
  };

  class Generating final : public Generation {
   public:
    Generating(FakeEngine* engine, std::shared_ptr<SessionHold> hold)
        : engine_(engine), hold_(std::move(hold)) {}
    ~Generating() override {
      absl::MutexLock lock(&engine_->mu_);
      engine_->generation_ = nullptr;
      --engine_->streams_;
    }
    absl::optional<GenerateEvent> Poll() override {
      absl::MutexLock lock(&engine_->mu_);
      if (engine_->events_.empty()) return absl::nullopt;
      GenerateEvent event = std::move(engine_->events_.front());
      engine_->events_.pop_front();
      return event;
    }
    void Cancel() override {
      absl::MutexLock lock(&engine_->mu_);
      engine_->cancelled_ = true;
    }
    void Disconnect(FinishReason reason) override {
      absl::MutexLock lock(&engine_->mu_);
      engine_->disconnected_ = reason;
    }

   private:
    FakeEngine* const engine_;
    const std::shared_ptr<SessionHold> hold_;
  };

  // Every byte is a token of one bit; scored as it comes.
  class FakeScoring final : public Scoring {
   public:
    FakeScoring(FakeEngine* engine, std::shared_ptr<SessionHold> hold,
                StreamListener* listener)
        : engine_(engine), hold_(std::move(hold)), listener_(listener) {}
    ~FakeScoring() override {
      absl::MutexLock lock(&engine_->mu_);
      --engine_->streams_;
    }
    absl::StatusOr<Offer> Write(const Payload& payload) override {
      absl::MutexLock lock(&engine_->mu_);
      ScoreEvent event;
      for (const char c : std::get<std::string>(payload)) {
        event.tokens.push_back(
            {.token = c, .logprob = kOneBit, .offset = totals_.bytes});
        ++totals_.bytes;
        ++totals_.tokens_scored;
        totals_.logprob_sum += kOneBit;
      }
      event.totals = totals_;
      events_.push_back(std::move(event));
      return Offer::kTaken;
    }
    void FinishInput() override {
      absl::MutexLock lock(&engine_->mu_);
      ScoreEvent event;
      event.kind = ScoreEvent::Kind::kFinished;
      event.totals = totals_;
      event.load = Report();
      events_.push_back(std::move(event));
      listener_->OnProgress();
    }
    absl::optional<ScoreEvent> Poll() override {
      absl::MutexLock lock(&engine_->mu_);
      if (events_.empty()) return absl::nullopt;
      ScoreEvent event = std::move(events_.front());
      events_.pop_front();
      return event;
    }
    void Cancel() override {}

   private:
    static constexpr float kOneBit = -0.693147180559945f;
    FakeEngine* const engine_;
    const std::shared_ptr<SessionHold> hold_;
    StreamListener* const listener_;
    ScoreTotals totals_;
    std::deque<ScoreEvent> events_;
  };

  static absl::Status WouldBlock() {
    return absl::InternalError("a session that is not held was asked for");
  }
  static absl::Status NoSession() {
    return absl::NotFoundError("no such session");
  }
  template <typename Outcome>
  void Remember(const RequestTag<Outcome>& request, const Outcome& outcome)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (request.id.empty()) return;
    remembered_.push_back({.id = request.id,
                           .digest = request.digest,
                           .reply = request.reply(outcome),
                           .time = absl::Now()});
  }
  // Makes a session that `fill` describes.
  template <typename Fill>
  absl::StatusOr<SessionInfo> Make(const std::string& id,
                                   const RequestTag<SessionInfo>& request,
                                   Fill fill) ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    SessionInfo session;
    session.id = id.empty() ? absl::StrCat("s", creates_) : id;
    session.expire_time = absl::InfiniteFuture();
    session.epoch = 1;
    MNEME_RETURN_IF_ERROR(fill(session));
    if (models_.count(session.model) == 0) {
      return absl::NotFoundError("no such model");
    }
    if (sessions_.count(session.id) != 0) {
      return absl::AlreadyExistsError("there is one");
    }
    session.uid = absl::StrCat("uid-", ++creates_);
    Remember(request, session);
    return sessions_[session.id] = session;
  }
  // Has `change` done to a session.
  template <typename ChangeFunction>
  absl::StatusOr<SessionInfo> Change(const std::string& id,
                                     const RequestTag<SessionInfo>& request,
                                     ChangeFunction change)
      ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return NoSession();
    MNEME_RETURN_IF_ERROR(change(found->second));
    Remember(request, found->second);
    return found->second;
  }
  // Puts `session` where a snapshot is.
  absl::Status TakeSnapshot(const std::string& of, const std::string& name,
                            SessionInfo* session)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    for (const SnapshotInfo& snapshot : snapshots_[of]) {
      if (snapshot.name != name) continue;
      session->next_offset = snapshot.offset;
      return absl::OkStatus();
    }
    return WithReason(absl::NotFoundError("no such snapshot"),
                      {.reason = "SNAPSHOT_NOT_FOUND", .metadata = {}});
  }
  absl::Status TakeFailure(const std::string& id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (sessions_.count(id) == 0) return NoSession();
    return std::exchange(next_stream_status_, absl::OkStatus());
  }
  void NotifyAppend() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (append_ != nullptr) append_->OnProgress();
  }
  template <typename Condition>
  bool Await(Condition condition) {
    absl::MutexLock lock(&mu_);
    return mu_.AwaitWithTimeout(absl::Condition(&condition), absl::Seconds(10));
  }

  mutable absl::Mutex mu_;
  std::map<std::string, ModelInfo> models_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, SessionInfo> sessions_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::vector<SnapshotInfo>> snapshots_
      ABSL_GUARDED_BY(mu_);
  std::vector<AnsweredRequest> remembered_ ABSL_GUARDED_BY(mu_);
  std::string file_ ABSL_GUARDED_BY(mu_);
  StreamListener* watch_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::deque<SessionEvent> happened_ ABSL_GUARDED_BY(mu_);
  int64_t loads_ ABSL_GUARDED_BY(mu_) = 0;  // asked for
  int64_t holds_ ABSL_GUARDED_BY(mu_) = 0;
  bool hold_session_loads_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::function<void()>> held_session_loads_ ABSL_GUARDED_BY(mu_);
  absl::Status next_session_load_status_ ABSL_GUARDED_BY(mu_);
  int64_t creates_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t streams_ ABSL_GUARDED_BY(mu_) = 0;
  int scorings_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t credit_ ABSL_GUARDED_BY(mu_) = 1000000;
  int64_t taken_ ABSL_GUARDED_BY(mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool hold_forks_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::function<void()>> held_forks_ ABSL_GUARDED_BY(mu_);
  StreamListener* append_ ABSL_GUARDED_BY(mu_) = nullptr;
  StreamListener* generation_ ABSL_GUARDED_BY(mu_) = nullptr;
  absl::Status append_status_ ABSL_GUARDED_BY(mu_);
  absl::Status next_load_status_ ABSL_GUARDED_BY(mu_);
  bool hold_loads_ ABSL_GUARDED_BY(mu_) = false;
  bool hold_descriptions_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::function<void()>> held_descriptions_ ABSL_GUARDED_BY(mu_);
  absl::Status next_stream_status_ ABSL_GUARDED_BY(mu_);
  GenerateOptions last_generate_ ABSL_GUARDED_BY(mu_);
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  absl::optional<FinishReason> disconnected_ ABSL_GUARDED_BY(mu_);
  std::deque<GenerateEvent> events_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mneme::server

#endif  // MNEME_TESTS_SERVER_FAKE_ENGINE_H_
