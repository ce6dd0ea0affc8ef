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

  absl::StatusOr<SessionInfo> CreateSession(
      const CreateSessionOptions& options) override {
    absl::MutexLock lock(&mu_);
    if (models_.count(options.model) == 0) {
      return absl::NotFoundError("no such model");
    }
    SessionInfo session;
    session.id = options.id.empty() ? absl::StrCat("s", creates_) : options.id;
    if (sessions_.count(session.id) != 0) {
      return absl::AlreadyExistsError("there is one");
    }
    session.uid = absl::StrCat("uid-", ++creates_);
    session.model = options.model;
    session.epoch = 1;
    session.labels = options.labels;
    session.unit = options.unit.value_or(SessionUnit::kText);
    return sessions_[session.id] = session;
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
  absl::StatusOr<SessionInfo> UpdateSession(
      const UpdateSessionOptions& options) override {
    absl::MutexLock lock(&mu_);
    const auto found = sessions_.find(options.session);
    if (found == sessions_.end()) return NoSession();
    SessionInfo& session = found->second;
    if (options.labels.has_value()) session.labels = *options.labels;
    if (options.ttl.has_value()) {
      session.expire_time = session.update_time + *options.ttl;
    }
    ++session.revision;
    return session;
  }
  void ResetSession(
      const std::string& id, bool takeover,
      std::function<void(absl::StatusOr<SessionInfo>)> done) override {
    absl::StatusOr<SessionInfo> session = GetSession(id);
    if (session.ok() && !takeover &&
        session->activity != SessionActivity::kIdle) {
      session = absl::AbortedError("in use");
    }
    done(session);
  }
  void CommitSegment(
      const std::string& id, const std::string& /*uid*/,
      std::function<void(absl::StatusOr<SegmentCommit>)> done) override {
    const absl::StatusOr<SessionInfo> session = GetSession(id);
    if (!session.ok()) return done(session.status());
    done(SegmentCommit{.position = session->position, .segment_tokens = 3});
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
      page.push_back(it->second);
    }
    return page;
  }
  absl::Status DeleteSession(const std::string& id,
                             const std::string& uid) override {
    absl::MutexLock lock(&mu_);
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return NoSession();
    if (!uid.empty() && uid != found->second.uid) {
      return absl::AbortedError("another uid");
    }
    sessions_.erase(found);
    return absl::OkStatus();
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
    ++streams_;
    append_ = listener;
    return std::make_unique<Append>(this, sessions_.at(options.session));
  }
  absl::StatusOr<std::unique_ptr<Generation>> Generate(
      const GenerateOptions& options, StreamListener* listener) override {
    absl::MutexLock lock(&mu_);
    if (absl::Status status = TakeFailure(options.session); !status.ok()) {
      return status;
    }
    ++streams_;
    generation_ = listener;
    last_generate_ = options;
    if (!events_.empty()) listener->OnProgress();
    return std::make_unique<Generating>(this);
  }
  absl::StatusOr<std::unique_ptr<Scoring>> Score(
      const ScoreOptions& options, StreamListener* listener) override {
    absl::MutexLock lock(&mu_);
    if (absl::Status status = TakeFailure(options.session); !status.ok()) {
      return status;
    }
    ++streams_;
    return std::make_unique<FakeScoring>(this, listener);
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
           .state_bytes = 0});
    }
    stats.session_memory_used_bytes = 1234;
    stats.session_memory_limit_bytes = 4096;
    return stats;
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
  class Append final : public AppendStream {
   public:
    Append(FakeEngine* engine, const SessionInfo& session)
        : engine_(engine), id_(session.id) {
      opened_.uid = session.uid;
      opened_.epoch = session.epoch;
      opened_.absorbed_offset = session.absorbed_offset;
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
    AppendOpened opened_;
  };

  class Generating final : public Generation {
   public:
    explicit Generating(FakeEngine* engine) : engine_(engine) {}
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
  };

  // Every byte is a token of one bit; scored as it comes.
  class FakeScoring final : public Scoring {
   public:
    FakeScoring(FakeEngine* engine, StreamListener* listener)
        : engine_(engine), listener_(listener) {}
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
    StreamListener* const listener_;
    ScoreTotals totals_;
    std::deque<ScoreEvent> events_;
  };

  static absl::Status NoSession() {
    return absl::NotFoundError("no such session");
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
  int64_t creates_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t streams_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t credit_ ABSL_GUARDED_BY(mu_) = 1000000;
  int64_t taken_ ABSL_GUARDED_BY(mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
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
