// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_SUPPORT_SESSION_RIG_H_
#define MNEME_TESTS_SUPPORT_SESSION_RIG_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "engine/runtime/scheduler.h"
#include "engine/runtime/session.h"
#include "engine/store/open_store.h"

namespace mneme {

// Sessions without an engine, in a store in memory.
class SessionRig final : public SessionHost {
 public:
  // `scheduler` may be null: then nobody plans but the test.
  explicit SessionRig(Scheduler* scheduler)
      : scheduler_(scheduler), store_(*MakeMemoryStore({})) {}

  // One that is empty, hot and held.
  std::shared_ptr<Session> Make(std::shared_ptr<const ServedModel> model,
                                SessionUnit unit) {
    SessionRecord record;
    record.id = "s";
    record.uid = std::string(24, '0') + std::to_string(10000000 + made_++);
    record.counts_tokens = unit == SessionUnit::kTokens;
    record.model = model->name;
    record.model_fingerprint = model->model->fingerprint();
    auto session = std::make_shared<Session>(
        Session::Setup{.stored = {.record = record, .journal = absl::nullopt},
                       .model = std::move(model),
                       .limits = {.snapshot_interval_tokens = 1 << 20},
                       .store = store_.get(),
                       .buffers = &buffers_,
                       .host = this,
                       .clock = Clock::Real(),
                       .observer = &observer_});
    absl::Notification stored;
    session->Create(absl::nullopt,
                    [&](const absl::Status&) { stored.Notify(); });
    stored.WaitForNotification();
    Load(*session);
    return session;
  }

  // Brings a session into memory, and holds it.
  static void Load(Session& session) {
    bool start = false;
    session.Hold([](const absl::StatusOr<LoadReport>&) {}, &start);
    if (start) session.LoadFrom({});
  }

  // What is next, once the journal has taken what comes before.
  static Demand PlanStored(Session& session) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    Demand demand = session.Plan();
    while (demand.none() && absl::Now() < deadline) demand = session.Plan();
    return demand;
  }
  // Plans until `done`.
  static bool PlanUntil(Session& session, const std::function<bool()>& done) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (!done() && absl::Now() < deadline) session.Plan();
    return done();
  }

  void StartOnCopy(const Session& /*session*/,
                   const std::shared_ptr<Task>& /*task*/,
                   const SessionState& /*state*/, int64_t /*next_offset*/,
                   const InputQueue& /*pending*/) override {}
  void Wake(std::shared_ptr<Session> session) override {
    if (scheduler_ != nullptr) scheduler_->Wake(std::move(session));
  }
  void Post(std::function<void()> work) override { work(); }
  void StartLoad(std::shared_ptr<Session> session) override {
    session->LoadFrom({});
  }
  void OnIdle(const std::shared_ptr<Session>& /*session*/) override {}
  void OnSnapshotDue(const std::shared_ptr<Session>& /*session*/) override {}
  absl::StatusOr<Replayed> Replay(const Session& /*session*/,
                                  const AskRecord& /*ask*/,
                                  ReplayedTask /*replayed*/) override {
    return absl::UnimplementedError("the rig makes no tasks");
  }
  absl::StatusOr<ByteBudget::Reservation> Reserve(int64_t bytes,
                                                  const char* what) override {
    return budget_.Reserve(bytes, what);
  }
  void OnTaskResumed(const std::shared_ptr<Task>& /*task*/) override {}

 private:
  Scheduler* const scheduler_;
  Observer observer_;
  const std::unique_ptr<SessionStore> store_;
  BufferPool buffers_{1};
  ByteBudget budget_{int64_t{1} << 30};
  int made_ = 0;
};

}  // namespace mneme

#endif  // MNEME_TESTS_SUPPORT_SESSION_RIG_H_
