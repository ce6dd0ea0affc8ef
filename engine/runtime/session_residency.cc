// SPDX-License-Identifier: Apache-2.0
//
// How a session comes into memory and leaves it.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/wait_for.h"
#include "engine/runtime/kept_reply_coding.h"
#include "engine/runtime/session.h"
#include "engine/runtime/session_snapshot.h"

namespace mneme {
namespace {

// After how long a snapshot is tried again that could not be stored.
constexpr absl::Duration kSnapshotRetry = absl::Seconds(5);

}  // namespace

absl::Status Session::Bind(const std::shared_ptr<const ServedModel>& model) {
  absl::MutexLock lock(&mutex_);
  const std::string& found = model->model->fingerprint();
  if (found != record_.model_fingerprint) {
    return WithReason(
        absl::FailedPreconditionError(absl::StrCat(
            "session ", id(), " was made with the model of fingerprint ",
            record_.model_fingerprint, "; ", model_name_, " is ", found)),
        {.reason = "STATE_INCOMPATIBLE",
         .metadata = {{"found", found},
                      {"expected", record_.model_fingerprint}}});
  }
  if (model_ == nullptr) model_ = model;
  if (unit() == SessionUnit::kText && model_->tokenizer == nullptr) {
    return absl::InternalError("a text session of a model without tokenizer");
  }
  return absl::OkStatus();
}

bool Session::Hold(Waiter waiter, bool* start) {
  *start = false;
  absl::Status refused;
  {
    absl::MutexLock lock(&mutex_);
    refused = CheckOpen();
    if (refused.ok()) refused = CheckWhole();
    if (refused.ok()) {
      if (place_ == Place::kHot) {
        ++holds_;
        return true;
      }
      waiters_.push_back(std::move(waiter));
      if (place_ != Place::kCold) return false;
      place_ = Place::kLoading;
      *start = true;
      return false;
    }
  }
  waiter(refused);
  return false;
}

void Session::Unhold() {
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    --holds_;
    after.idle = Idle();
  }
  Do(after);
}

bool Session::InUse() const {
  return writer_ != nullptr || !tasks_.empty() || leased_ ||
         readers_waiting_ > 0 || !quiet_.empty() || !writes_.idle() ||
         !endings_.empty() ||
         (hot_ != nullptr &&
          (hot_->replay.has_value() ||
           (!stalled_ && (!hot_->input.idle() || !settled()))));
}

void Session::AnswerWaiters(const absl::StatusOr<LoadReport>& outcome,
                            Afterwards& after) {
  if (outcome.ok()) holds_ += static_cast<int64_t>(waiters_.size());
  for (Waiter& waiter : waiters_) {
    after.calls.push_back(
        [waiter = std::move(waiter), outcome] { waiter(outcome); });
  }
  waiters_.clear();
}

// -- Coming ------------------------------------------------------------------

absl::StatusOr<Session::Read> Session::ReadHot(const SessionRecord& record,
                                               uint64_t end_seq) const {
  // What is stored is read into one that is as good as new.
  MNEME_ASSIGN_OR_RETURN(std::unique_ptr<SessionState> state,
                         record.ring.empty()
                             ? model_->model->NewState()
                             : SessionState::Create(model_->model->layout()));
  auto hot = std::make_unique<Hot>(std::move(state), *model_, unit());
  if (record.ring.empty()) {
    const absl::optional<int32_t> bos =
        unit() == SessionUnit::kText ? model_->tokenizer->bos() : absl::nullopt;
    if (bos.has_value()) hot->state->PushToken(*bos);
  } else {
    const StoredSnapshot& base = record.ring.back();
    BufferPool::Lease contents(buffers_);
    MNEME_RETURN_IF_ERROR(store_->ReadBlob(base.blob, *contents));
    MNEME_ASSIGN_OR_RETURN(const SessionSnapshot snapshot,
                           DecodeSnapshot(*contents));
    MNEME_ASSIGN_OR_RETURN(RestoredSession restored,
                           RestoreSnapshot(snapshot, model_, *hot->state));
    hot->history = std::move(restored.history);
    hot->input = std::move(restored.input);
    // What came with the snapshot of another session is not its own answer.
    const bool own = base.next_seq > 0;
    if (own && restored.reply.has_value()) {
      hot->kept = *std::move(restored.reply);
    }
    if (hot->history.next_offset() != base.offset) {
      return absl::DataLossError(absl::StrCat("the snapshot at offset ",
                                              base.offset, " is of offset ",
                                              hot->history.next_offset()));
    }
  }
  JournalRoom room(host_);
  MNEME_ASSIGN_OR_RETURN(
      StoredJournal journal,
      ReadStoredJournal(
          *store_, uid(),
          {.seq = record.replay_seq, .offset = hot->history.next_offset()},
          end_seq, [&room](int64_t bytes) { return room.Hold(bytes); }));
  return Read{.hot = std::move(hot),
              .journal = std::move(journal),
              .room = std::move(room)};
}

absl::Status Session::JournalRoom::Hold(int64_t bytes) {
  constexpr int64_t kLeast = 16 << 10;
  if (bytes <= bytes_) return absl::OkStatus();
  // Twice as much as before, so that long ones are made of few parts.
  const int64_t more = std::max({bytes - bytes_, bytes_, kLeast});
  MNEME_ASSIGN_OR_RETURN(ByteBudget::Reservation part,
                         host_->Reserve(more, "a session's journal"));
  parts_.push_back(std::move(part));
  bytes_ += more;
  return absl::OkStatus();
}

std::string Session::FindGoodSnapshot(const SessionRecord& record) const {
  std::vector<StoredSnapshot> kept = record.ring;
  for (const auto& [name, snapshot] : record.named) kept.push_back(snapshot);
  std::sort(kept.begin(), kept.end(),
            [](const auto& a, const auto& b) { return a.offset > b.offset; });
  for (const StoredSnapshot& snapshot : kept) {
    BufferPool::Lease contents(buffers_);
    if (store_->ReadBlob(snapshot.blob, *contents).ok() &&
        DecodeSnapshot(*contents).ok()) {
      return SnapshotName(snapshot);
    }
  }
  return "";
}

void Session::LoadFrom(ByteBudget::Reservation reservation) {
  const absl::Duration start = clock_->Monotonic();
  SessionRecord record;
  uint64_t end_seq = 0;
  {
    absl::MutexLock lock(&mutex_);
    record = record_;
    end_seq = writes_.end().seq;
  }
  absl::StatusOr<Read> read = ReadHot(record, end_seq);
  std::string good_snapshot;
  if (absl::IsDataLoss(read.status())) good_snapshot = FindGoodSnapshot(record);
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    if (!broken_.ok()) {
      EndFailedLoad(broken_, after);
    } else if (deleted_ || !read.ok()) {
      place_ = Place::kCold;
      absl::Status status = deleted_ ? CheckAlive() : read.status();
      observer_->OnLoadFailed(model_name_, absl::IsDataLoss(status) ? "damaged"
                                           : absl::IsFailedPrecondition(status)
                                               ? "incompatible"
                                               : "unavailable");
      if (absl::IsDataLoss(status)) {
        Quarantine(status, good_snapshot, after);
        status = CheckWhole();
      }
      AnswerWaiters(status, after);
    } else {
      hot_ = std::move(read->hot);
      hot_->reservation = std::move(reservation);
      const bool replays = !read->journal.records.empty();
      hot_->replay =
          Replay{.journal = JournalReplay(std::move(read->journal.records),
                                          hot_->history.next_offset()),
                 .room = std::move(read->room),
                 .position = hot_->state->position(),
                 .report = {},
                 .start = start};
      hot_->replay->report.tier =
          replays ? StateTier::kReplayed : StateTier::kCold;
      stalled_ = false;
      planned_ = false;
      journal_bytes_ = read->journal.bytes;
      CountTokens();
      // What waited when the snapshot was taken is computed first.
      const bool whole = hot_->input.idle() && settled();
      if (!replays && whole) {
        FinishReplay(absl::OkStatus(), after);
      }
      after.wake = true;
    }
  }
  Do(after);
}

void Session::FailLoad(const absl::Status& status) {
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    EndFailedLoad(status, after);
  }
  Do(after);
}

void Session::EndFailedLoad(const absl::Status& status, Afterwards& after) {
  place_ = Place::kCold;
  if (!broken_.ok()) {
    Break(std::exchange(broken_, absl::OkStatus()), after);
  } else {
    AnswerWaiters(status, after);
  }
}

bool Session::AdvanceReplay(Afterwards& after) {
  JournalReplay& journal = hot_->replay->journal;
  const int64_t offset = hot_->history.next_offset();
  if (offset != journal.offset() || journal.done()) {
    FinishReplay(
        offset == journal.offset()
            ? absl::OkStatus()
            : absl::DataLossError(absl::StrCat("replaying gave offset ", offset,
                                               ", wanted ", journal.offset())),
        after);
    return false;
  }
  stalled_ = false;
  if (hot_->suspended != nullptr) {
    // The journal goes on behind it: it was ended there.
    ResumeSuspended(/*cancel=*/true, after);
    return true;
  }
  absl::StatusOr<JournalReplay::Event> event = journal.Next();
  if (!event.ok()) {
    FinishReplay(event.status(), after);
    return false;
  }
  if (const auto* input = std::get_if<InputRecord>(&*event)) {
    Accept(*input);
    return true;
  }
  auto& [ask, task] = std::get<JournalReplay::Asked>(*event);
  absl::StatusOr<SessionHost::Replayed> made =
      host_->Replay(*this, ask, std::move(task));
  if (!made.ok()) {
    FinishReplay(made.status(), after);
    return false;
  }
  made->task->SetPrompt({.bytes = std::move(ask.prompt),
                         .role = std::move(ask.prompt_role),
                         .asks = ask.begins_reply});
  if (!made->kept.request_id.empty()) hot_->kept = std::move(made->kept);
  tasks_.push_back(std::move(made->task));
  return true;
}

void Session::FinishReplay(const absl::Status& status, Afterwards& after) {
  Replay& replay = *hot_->replay;
  if (!status.ok()) {
    AbandonTasks(status, status, after);
    RefuseQuiet(status, after);
    DropHot(after);
    if (absl::IsDataLoss(status)) {
      Quarantine(status,
                 record_.ring.empty() ? "" : SnapshotName(record_.ring.back()),
                 after);
    }
    AnswerWaiters(absl::IsDataLoss(status) ? CheckWhole() : status, after);
    return;
  }
  LoadReport report = replay.report;
  CountTokens();
  report.replayed_tokens = reach_.position - replay.position;
  report.load_time = clock_->Monotonic() - replay.start;
  hot_->replay.reset();
  place_ = Place::kHot;
  if (record_.arithmetic_level.empty()) {
    record_.arithmetic_level = model_->model->arithmetic_level();
  }
  observer_->OnSessionLoaded(model_name_, report);
  AnswerWaiters(report, after);
  Tell(SessionEvent::Kind::kLoaded, "", after);
  if (hot_->suspended != nullptr) {
    const bool goes_on = hot_->suspended->unattended();
    const bool may_come_back = hot_->kept.task.lock() != nullptr;
    if (goes_on || !may_come_back) ResumeSuspended(!goes_on, after);
  }
  after.wake = true;
}

void Session::ResumeSuspended(bool cancel, Afterwards& after) {
  if (hot_->suspended == nullptr) return;
  std::shared_ptr<Task> task = std::move(hot_->suspended);
  hot_->suspended = nullptr;
  task->Resume();
  if (cancel) {
    task->Cancel();
    owed_ = task.get();  // nobody waits for it
  }
  task->SetLane(shared_from_this());
  asking_ = Asking::kYes;
  tasks_.insert(tasks_.begin(), task);
  if (!cancel) host_->OnTaskResumed(task);
  after.wake = true;
}

void Session::ResumeGeneration(const std::string& request_id) {
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    if (hot_ != nullptr && hot_->suspended != nullptr && Keeps(request_id)) {
      ResumeSuspended(/*cancel=*/false, after);
    }
  }
  Do(after);
}

// -- Leaving -----------------------------------------------------------------

Session::Encoded Session::EncodeBeside() const {
  Encoded encoded;
  hot_->history.Encode(encoded.history);
  hot_->input.Encode(encoded.input);
  // One that still waits for its turn is made again from the journal.
  if (!hot_->kept.request_id.empty() && hot_->kept.reply->finished()) {
    EncodeKeptReply(hot_->kept, encoded.reply);
  }
  encoded.run = run_;
  encoded.whole = hot_->input.idle() && (settled() || stalled_);
  if (encoded.whole) encoded.pending = std::string(hot_->input.bytes());
  encoded.snapshot = {.next_seq = writes_.end().seq,
                      .offset = hot_->history.next_offset(),
                      .position = reach_.position,
                      .pending_tokens = reach_.tail_tokens,
                      .pending_bytes = encoded.whole ? hot_->input.size() : 0,
                      .history_digest = hot_->history.Digest(),
                      .model_fingerprint = model_->model->fingerprint(),
                      .create_time = clock_->Now()};
  return encoded;
}

void Session::DigestState(Encoded& encoded) const {
  if (!encoded.whole || !encoded.snapshot.state_digest.empty()) return;
  encoded.snapshot.state_digest =
      hot_->state->Digest(model_->model->fingerprint(), encoded.pending);
}

void Session::EncodeAll(Encoded& encoded, std::string& contents) const {
  EncodeSnapshot(
      {.header = {.model_fingerprint = model_->model->fingerprint(),
                  .arithmetic_level = model_->model->arithmetic_level(),
                  .unit = unit(),
                  .offset = encoded.snapshot.offset,
                  .position = encoded.snapshot.position},
       .history = encoded.history,
       .input = encoded.input,
       .reply = encoded.reply},
      *hot_->state, contents);
  encoded.snapshot.stored_bytes = static_cast<int64_t>(contents.size());
}

bool Session::TryLeave() {
  Encoded encoded;
  bool stores = false;
  {
    absl::MutexLock lock(&mutex_);
    if (place_ != Place::kHot || holds_ > 0 || record_.pinned || deleted_ ||
        snapshot_wanted_ || InUse() || !closed_.ok()) {
      return false;
    }
    place_ = Place::kLeaving;
    leased_ = true;
    // One that was cut off is replayed again instead.
    stores =
        hot_->suspended == nullptr && writes_.end().seq != record_.replay_seq;
    if (stores) encoded = EncodeBeside();
  }
  const absl::Time start = clock_->Now();
  absl::Status stored;
  if (stores) {
    BufferPool::Lease contents(buffers_);
    EncodeAll(encoded, *contents);
    stored = StoreEncoded(*contents, encoded, /*name=*/"", {});
  }
  Afterwards after;
  bool left = false;
  {
    absl::MutexLock lock(&mutex_);
    if (place_ == Place::kLeaving) place_ = Place::kHot;
    EndLease(after);
    if (place_ == Place::kHot && hot_ != nullptr) {
      if (!stored.ok() || !waiters_.empty() || deleted_) {
        AnswerWaiters(LoadReport{}, after);
        after.idle = false;
        after.wake = true;
      } else {
        DropHot(after);
        left = true;
        Tell(SessionEvent::Kind::kEvicted, "", after);
        observer_->OnSessionEvicted(model_name_, clock_->Now() - start);
      }
    }
    if (left) after.idle = false;
  }
  Do(after);
  return left;
}

absl::Status Session::StoreEncoded(std::string& contents, Encoded& encoded,
                                   const std::string& name,
                                   const Remembering& remember) {
  if (!name.empty()) {
    absl::MutexLock lock(&mutex_);
    MNEME_RETURN_IF_ERROR(CheckQuota(static_cast<int64_t>(contents.size())));
  }
  MNEME_ASSIGN_OR_RETURN(const uint64_t blob, store_->WriteBlob(contents));
  DigestState(encoded);  // while the disk writes
  MNEME_RETURN_IF_ERROR(store_->SyncBlob(blob));
  encoded.snapshot.blob = blob;
  encoded.snapshot.name = name;
  const absl::Status stored =
      WaitFor<absl::Status>([&](SessionStore::Done done) {
        absl::Status outdated;
        {
          absl::MutexLock lock(&mutex_);
          outdated = CheckAlive();
          if (outdated.ok() && encoded.run != run_) {
            outdated = absl::AbortedError(
                absl::StrCat("session ", id(), " was taken back meanwhile"));
          }
          if (outdated.ok()) {
            AddSnapshot(encoded.snapshot,
                        remember == nullptr ? absl::nullopt
                                            : remember(encoded.snapshot),
                        std::move(done));
            return;
          }
        }
        done(outdated);
      });
  store_->DropBlob(blob);  // unless the record has it now
  return stored;
}

void Session::StoreSnapshot() {
  Encoded encoded;
  bool busy = false;
  {
    absl::MutexLock lock(&mutex_);
    if (!AwaitReadable() || asking_ != Asking::kNo ||
        hot_->suspended != nullptr || writes_.end().seq == record_.replay_seq) {
      snapshot_wanted_ = false;
      busy = true;
    } else {
      leased_ = true;
      encoded = EncodeBeside();
    }
  }
  if (busy) {
    host_->Wake(shared_from_this());  // its lane made way
    return;
  }
  BufferPool::Lease contents(buffers_);
  EncodeAll(encoded, *contents);
  DigestState(encoded);
  EndQuiet();  // it may go on while this is written
  const absl::Status stored = StoreEncoded(*contents, encoded, /*name=*/"", {});
  if (stored.ok()) {
    observer_->OnSnapshot(model_name_, encoded.snapshot.position);
  } else {
    LogWarning("session ", id(), ": no snapshot: ", stored.ToString());
  }
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    snapshot_wanted_ = false;
    if (!stored.ok()) next_snapshot_ = clock_->Monotonic() + kSnapshotRetry;
    after.wake = hot_ != nullptr;
    // It could not leave meanwhile.
    after.idle = Idle();
  }
  Do(after);
}

}  // namespace mneme
