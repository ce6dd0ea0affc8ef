// SPDX-License-Identifier: Apache-2.0
//
// Appending by offset and by credit, over as many streams as it takes.
//
// On one stream the calling thread reads the source and writes segments; a
// second thread reads what the server says and moves `acknowledged_`. Between
// them stands one rule: a segment is written only if afterwards
//
//   sent - acknowledged <= max_inflight_bytes
//
// where `acknowledged` is the lowest offset the server still owes a promise
// for. What was taken from the source stays in `held_` until it was sent and
// acknowledged. So neither side ever buffers more than the credit (and one
// message), however fast the source and however slow the model.
//
// When a stream breaks, the next one sends all of `held_` again: the server
// compares what it has and takes the rest. Before that it is checked that the
// session is the one that was written to: its uid, its offset, and its digest
// where the whole history came from here.
#include <algorithm>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "client/backoff.h"
#include "client/client.h"
#include "client/status.h"
#include "client/stubs.h"
#include "client/unacknowledged.h"

namespace mneme::client {
namespace {

using Stream = grpc::ClientReaderWriter<v1::AppendRequest, v1::AppendResponse>;

// Gives the source's next payload, at most `max_units` bytes or tokens, as
// digests count it; empty at the end.
using PayloadSource =
    std::function<absl::StatusOr<std::string>(int64_t max_units)>;

absl::Status WithMessage(const absl::Status& status,
                         absl::string_view message) {
  absl::Status result(status.code(), message);
  status.ForEachPayload(
      [&result](absl::string_view url, const absl::Cord& payload) {
        result.SetPayload(url, payload);
      });
  return result;
}

class AppendCall {
 public:
  AppendCall(v1::Memory::Stub* memory, ActiveCalls* calls,
             const ClientOptions& client_options, const std::string& session,
             v1::Session::Unit unit, const AppendOptions& options)
      : memory_(memory),
        calls_(calls),
        cancellations_(calls->cancellations()),
        client_options_(client_options),
        session_(session),
        options_(options),
        unit_(unit),
        uid_(options.uid),
        held_(unit) {}

  absl::StatusOr<AppendResult> Run(const PayloadSource& source);

 private:
  // One stream from its opening to its end; OK if everything is done.
  absl::Status RunStream(const PayloadSource& source);
  void ReadUntilEnd(Stream* stream) ABSL_LOCKS_EXCLUDED(mutex_);
  void Take(const v1::AppendResponse& response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Acknowledge(int64_t absorbed, int64_t durable)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Status SendAll(const PayloadSource& source, Stream* stream)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Begin(const PayloadSource& source) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status BeginFirst(const PayloadSource& source,
                          const v1::AppendResponse::Opened& opened)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status BeginAgain(const v1::AppendResponse::Opened& opened)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status SkipWhatIsThere(const PayloadSource& source,
                               const v1::AppendResponse::Opened& opened)
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool WaitForCredit(int64_t end) ABSL_LOCKS_EXCLUDED(mutex_);

  bool MayGoOn(const absl::Status& broken) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Explain(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);

  bool Cancelled() const { return calls_->cancellations() != cancellations_; }

  // Whether the source goes behind what the session has, whatever that is.
  bool AtTheEnd() const {
    return !options_.start_offset.has_value() && !options_.resume;
  }

  // Everything the source gave is acknowledged, and it has no more.
  bool Done() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return begun_ && source_ended_ && acknowledged_ >= held_.end() &&
           !(AtTheEnd() && result_.duplicate);
  }

  // What the server keeps, and what the digest is over.
  static int64_t KeptOffset(const v1::AppendResponse::Opened& opened) {
    return opened.durability() == v1::Session::FSYNC ? opened.durable_offset()
                                                     : opened.absorbed_offset();
  }

  v1::Memory::Stub* const memory_;
  ActiveCalls* const calls_;
  const int64_t cancellations_;  // when the append began
  const ClientOptions& client_options_;
  const std::string session_;
  const AppendOptions& options_;
  const v1::Session::Unit unit_;

  // Only for the calling thread.
  std::string uid_;
  int64_t epoch_ = 0;            // of the last stream that was opened
  int64_t unheard_epochs_ = 0;   // takeovers since, whose outcome is unknown
  bool unheard_open_ = false;    // a stream broke before the first Opened
  bool takeover_ = false;        // for the next stream
  bool from_beginning_ = false;  // held_ began at offset 0
  bool refused_ = false;         // by this class; no other stream helps
  bool source_ended_ = false;
  absl::Status source_status_;
  int64_t max_inflight_bytes_ = 0;
  int64_t segment_units_ = 0;

  absl::Mutex mutex_;
  // Of the running stream.
  bool opened_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  v1::AppendResponse::Opened last_opened_ ABSL_GUARDED_BY(mutex_);
  // Acknowledged when it opened: acks may follow before Opened is looked at.
  int64_t owed_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration pause_ ABSL_GUARDED_BY(mutex_);
  absl::Status moved_ ABSL_GUARDED_BY(mutex_);
  int64_t awaited_ ABSL_GUARDED_BY(mutex_) = 0;  // credit counts from here
  int64_t sent_end_ ABSL_GUARDED_BY(mutex_) = 0;
  // Of the whole append.
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;  // result_.start_offset is set
  int64_t acknowledged_ ABSL_GUARDED_BY(mutex_) = 0;
  // Of result_.breaks, those at which nothing had been taken yet.
  int restarts_ ABSL_GUARDED_BY(mutex_) = 0;
  // Grown by the calling thread, shrunk by the reading one.
  Unacknowledged held_ ABSL_GUARDED_BY(mutex_);
  AppendResult result_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<AppendResult> AppendCall::Run(const PayloadSource& source) {
  Backoff backoff(client_options_.first_backoff,
                  client_options_.longest_resume_backoff);
  absl::Duration waited = absl::ZeroDuration();
  int attempts = 0;
  int64_t last_acknowledged = 0;
  while (true) {
    const absl::Status status = RunStream(source);
    // With everything acknowledged it does not matter that the stream broke.
    if (status.ok() || (!refused_ && IsBrokenStream(status) && Done())) break;
    if (refused_ || !MayGoOn(status)) return Explain(status);
    {
      absl::MutexLock lock(&mutex_);
      ++attempts;
      if (acknowledged_ > last_acknowledged) {
        last_acknowledged = acknowledged_;
        backoff.Reset();
        waited = absl::ZeroDuration();
      }
    }
    // Until the first stream opened this is a call like any other.
    if (epoch_ == 0 && attempts >= client_options_.max_attempts &&
        ReasonOf(status) != "SESSION_BUSY") {
      return status;
    }
    absl::Duration wait = backoff.Next();
    if (const auto asked = RetryDelayOf(status)) wait = std::max(wait, *asked);
    waited += wait;
    if (waited > client_options_.resume_for) return Explain(status);
    if (options_.on_break) options_.on_break(status, wait);
    if (client_options_.wait) {
      client_options_.wait(wait);
    } else {
      calls_->Wait(wait, cancellations_);
    }
    if (Cancelled()) return absl::CancelledError("interrupted");
    absl::MutexLock lock(&mutex_);
    ++result_.breaks;
  }
  if (!source_status_.ok()) return source_status_;
  absl::MutexLock lock(&mutex_);
  result_.end_offset = held_.end();
  return result_;
}

absl::Status AppendCall::RunStream(const PayloadSource& source) {
  v1::AppendRequest request;
  v1::AppendRequest::Open* open = request.mutable_open();
  open->set_session(session_);
  open->set_uid(uid_);
  open->set_expected_epoch(epoch_);
  open->set_takeover(takeover_ || (options_.takeover && epoch_ == 0));
  open->set_resume(epoch_ != 0 || options_.start_offset.has_value() ||
                   options_.resume);
  {
    absl::MutexLock lock(&mutex_);
    opened_ = ended_ = false;
    pause_ = absl::ZeroDuration();
  }
  ActiveCall call(calls_);
  const auto stream = memory_->Append(&call.context());
  stream->Write(request);
  if (open->takeover()) ++unheard_epochs_;

  std::thread reader([this, &stream] { ReadUntilEnd(stream.get()); });
  absl::Status sent = SendAll(source, stream.get());
  reader.join();
  absl::Status status = ToAbslStatus(stream->Finish());

  absl::MutexLock lock(&mutex_);
  if (!moved_.ok()) return moved_;
  if (!sent.ok()) {
    // Waiting for a digest is the one thing that helps.
    refused_ = refused_ || !absl::IsUnavailable(sent);
    return sent;
  }
  if (!status.ok()) return status;
  refused_ = true;
  if (AtTheEnd() && result_.duplicate) {
    return absl::AbortedError(absl::StrCat(
        "somebody else, or a generation, wrote the same as this append from "
        "offset ",
        result_.start_offset, " on, so it was not applied twice"));
  }
  if (!opened_) {
    return absl::InternalError("the server ended the stream without opening");
  }
  if (acknowledged_ < held_.end()) {
    return absl::InternalError(
        absl::StrCat("the server ended the stream at offset ", acknowledged_,
                     ", sent up to ", held_.end()));
  }
  return absl::OkStatus();
}

// Body of the reading thread.
void AppendCall::ReadUntilEnd(Stream* stream) {
  v1::AppendResponse response;
  while (stream->Read(&response)) {
    {
      absl::MutexLock lock(&mutex_);
      Take(response);
    }
    if (options_.on_response) options_.on_response(response);
  }
  absl::MutexLock lock(&mutex_);
  ended_ = true;
}

void AppendCall::Take(const v1::AppendResponse& response) {
  switch (response.message_case()) {
    case v1::AppendResponse::kOpened:
      opened_ = true;
      last_opened_ = response.opened();
      owed_ = acknowledged_;
      awaited_ =
          std::min(last_opened_.absorbed_offset(), KeptOffset(last_opened_));
      break;
    case v1::AppendResponse::kAck: {
      const v1::AppendResponse::Ack& ack = response.ack();
      result_.ack = ack;
      result_.verified = result_.verified && ack.verified();
      // After a break duplicates are of this client's own making.
      if (result_.breaks == restarts_ && ack.duplicate()) {
        result_.duplicate = true;
      }
      Acknowledge(ack.absorbed_offset(), ack.durable_offset());
      break;
    }
    case v1::AppendResponse::kThrottle: {
      const auto& delay = response.throttle().retry_delay();
      pause_ =
          absl::Seconds(delay.seconds()) + absl::Nanoseconds(delay.nanos());
      break;
    }
    case v1::AppendResponse::kMoved:
      moved_ = absl::UnavailableError(absl::StrCat(
          "the session moved to ", response.moved().owner(), " (NOT_OWNER)"));
      break;
    case v1::AppendResponse::kHeartbeat:
    case v1::AppendResponse::MESSAGE_NOT_SET:
      break;
  }
}

void AppendCall::Acknowledge(int64_t absorbed, int64_t durable) {
  const bool fsync = last_opened_.durability() == v1::Session::FSYNC;
  awaited_ = std::max(awaited_, fsync ? std::min(absorbed, durable) : absorbed);
  acknowledged_ = std::max(acknowledged_, awaited_);
  held_.FreeBefore(std::min(acknowledged_, sent_end_));
}

// Sends segments until the source or the stream ends. Half-closes in any
// case, so that the reading thread ends too. OK also when the stream broke;
// its status tells why.
absl::Status AppendCall::SendAll(const PayloadSource& source, Stream* stream) {
  absl::Status begun = Begin(source);
  bool writable = begun.ok();
  while (writable) {
    v1::AppendRequest request;
    int64_t end = 0;
    {
      absl::MutexLock lock(&mutex_);
      if (ended_) break;
      if (sent_end_ < held_.end()) {
        *request.mutable_segment() = held_.Cut(sent_end_, segment_units_);
        end = std::min(held_.end(), sent_end_ + segment_units_);
      }
    }
    if (request.has_segment()) {
      writable = WaitForCredit(end) && stream->Write(request);
      continue;
    }
    if (source_ended_) break;
    // The source may take its time, so no lock is held meanwhile.
    const absl::StatusOr<std::string> bytes = source(segment_units_);
    source_status_ = bytes.status();
    source_ended_ = !bytes.ok() || bytes->empty();
    if (source_ended_) continue;
    absl::MutexLock lock(&mutex_);
    held_.Add(*bytes);
  }
  stream->WritesDone();
  return begun;
}

// Waits for Opened and sets where to go on. OK also if the stream ended
// instead.
absl::Status AppendCall::Begin(const PayloadSource& source) {
  v1::AppendResponse::Opened opened;
  bool first = false;
  {
    absl::MutexLock lock(&mutex_);
    const auto opened_or_ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(
                                     mutex_) { return opened_ || ended_; };
    mutex_.Await(absl::Condition(&opened_or_ended));
    if (!opened_) return absl::OkStatus();
    opened = last_opened_;
    first = !begun_;
  }
  uid_ = opened.uid();
  epoch_ = opened.epoch();
  unheard_epochs_ = 0;
  takeover_ = false;
  if (opened.unit() != unit_) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the session counts ", v1::Session::Unit_Name(opened.unit()),
        ", sent were ", v1::Session::Unit_Name(unit_)));
  }
  // A server that names no limits gets one message at a time.
  const int64_t unit_bytes = unit_ == v1::Session::TOKENS ? 4 : 1;
  max_inflight_bytes_ = std::max(opened.max_inflight_bytes(), unit_bytes);
  int64_t segment_bytes = std::min(options_.message_bytes, max_inflight_bytes_);
  if (opened.max_segment_bytes() > 0) {
    segment_bytes = std::min(segment_bytes, opened.max_segment_bytes());
  }
  segment_units_ = std::max<int64_t>(1, segment_bytes / unit_bytes);
  if (first) return BeginFirst(source, opened);
  absl::MutexLock lock(&mutex_);
  return BeginAgain(opened);
}

absl::Status AppendCall::BeginFirst(const PayloadSource& source,
                                    const v1::AppendResponse::Opened& opened) {
  if (options_.resume) {
    absl::Status skipped = SkipWhatIsThere(source, opened);
    if (!skipped.ok()) return skipped;
  }
  absl::MutexLock lock(&mutex_);
  if (!options_.resume) {
    held_.StartAt(options_.start_offset.value_or(opened.next_offset()));
  }
  from_beginning_ = options_.resume || held_.begin() == 0;
  begun_ = true;
  result_.opened = opened;
  result_.start_offset = held_.begin();
  sent_end_ = held_.begin();
  acknowledged_ = awaited_;
  return absl::OkStatus();
}

// Reads the source up to where the session is, and compares the digests.
absl::Status AppendCall::SkipWhatIsThere(
    const PayloadSource& source, const v1::AppendResponse::Opened& opened) {
  constexpr int64_t kSkipUnits = 64 * 1024;
  const int64_t kept = KeptOffset(opened);
  if (kept > 0 && opened.digest_at_durable().empty()) {
    return absl::UnavailableError(
        "the session still reads earlier input, so its digest is not at hand");
  }
  int64_t at = 0;
  {
    absl::MutexLock lock(&mutex_);
    at = held_.end();
  }
  while (at < kept && !source_ended_) {
    const absl::StatusOr<std::string> bytes =
        source(std::min(kSkipUnits, kept - at));
    if (!bytes.ok()) {
      refused_ = true;
      return bytes.status();
    }
    source_ended_ = bytes->empty();
    absl::MutexLock lock(&mutex_);
    held_.Add(*bytes);
    at = held_.end();
    held_.FreeBefore(at);
  }
  absl::MutexLock lock(&mutex_);
  if (at != kept) {
    return absl::FailedPreconditionError(
        absl::StrCat("the session holds ", kept, ", the source has only ", at));
  }
  if (kept > 0 && held_.DigestAt(kept) != opened.digest_at_durable()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the session's history of ", kept,
        " is not the source's beginning: its digest is ",
        opened.digest_at_durable(), ", the source's ", held_.DigestAt(kept)));
  }
  return absl::OkStatus();
}

absl::Status AppendCall::BeginAgain(const v1::AppendResponse::Opened& opened) {
  const int64_t kept = KeptOffset(opened);
  if (kept < owed_) {
    return absl::DataLossError(
        absl::StrCat("the server acknowledged up to offset ", owed_,
                     " and now holds ", kept));
  }
  const int64_t known_end = std::max(held_.end(), result_.opened.next_offset());
  if (opened.next_offset() > known_end) {
    return absl::AbortedError(
        absl::StrCat("somebody else wrote to the session: it is at offset ",
                     opened.next_offset(), ", sent was up to ", known_end));
  }
  const bool comparable = from_beginning_ &&
                          !opened.digest_at_durable().empty() &&
                          kept >= held_.begin() && kept <= held_.end();
  if (comparable && held_.DigestAt(kept) != opened.digest_at_durable()) {
    return absl::DataLossError(absl::StrCat(
        "the session's history up to offset ", kept,
        " is not what was sent: its digest is ", opened.digest_at_durable(),
        ", wanted ", held_.DigestAt(kept)));
  }
  sent_end_ = held_.begin();
  return absl::OkStatus();
}

// Waits until everything up to `end` may be in flight, and notes that it is.
// False when the stream ended instead.
bool AppendCall::WaitForCredit(int64_t end) {
  absl::MutexLock lock(&mutex_);
  const auto has_credit = [this, end]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // Behind a gap nothing will ever be acknowledged; the server has to see
    // it to say so.
    const int64_t awaited = std::max(awaited_, result_.start_offset);
    return ended_ ||
           (end - awaited) * held_.unit_bytes() <= max_inflight_bytes_;
  };
  mutex_.Await(absl::Condition(&has_credit));
  while (!ended_ && pause_ > absl::ZeroDuration()) {
    mutex_.AwaitWithTimeout(absl::Condition(&ended_),
                            std::exchange(pause_, absl::ZeroDuration()));
  }
  if (ended_) return false;
  sent_end_ = end;
  return true;
}

// Whether another stream may mend what `broken` tells, and as what it has to
// be opened.
bool AppendCall::MayGoOn(const absl::Status& broken) {
  if (Cancelled()) return false;
  {
    absl::MutexLock lock(&mutex_);
    if (!moved_.ok()) return false;  // another server has it
  }
  if (client_options_.resume_for <= absl::ZeroDuration()) return false;
  const std::string reason = ReasonOf(broken);
  if (epoch_ == 0) {
    // A stream that broke before it was heard of may be the writer that the
    // session is busy with; the server will notice that it is gone.
    if (reason == "SESSION_BUSY") return unheard_open_;
    unheard_open_ = true;
    return IsRetryable(broken);
  }
  if (reason == "SESSION_BUSY") {
    // Most likely the server still waits for the stream that broke. If it is
    // somebody else's, the epoch or the offset will tell.
    takeover_ = true;
    return true;
  }
  if (reason == "EPOCH_FENCED") {
    // A takeover of this client's whose answer was lost?
    int64_t found = 0;
    if (!absl::SimpleAtoi(ReasonMetadata(broken, "epoch"), &found)) {
      return false;
    }
    if (found <= epoch_ || found > epoch_ + unheard_epochs_) return false;
    unheard_epochs_ -= found - epoch_;
    epoch_ = found;
    return true;
  }
  if (reason == "SEGMENT_CONFLICT" && AtTheEnd()) {
    // A generation or a score wrote between Opened and the first segment: the
    // end of the session is elsewhere now.
    absl::MutexLock lock(&mutex_);
    const bool untouched =
        begun_ && result_.breaks == restarts_ &&
        held_.begin() == result_.start_offset &&
        ReasonMetadata(broken, "offset") == absl::StrCat(result_.start_offset);
    if (!untouched) return false;
    begun_ = false;
    ++restarts_;
    return true;
  }
  return IsBrokenStream(broken);
}

// Says what an error means for an append that was under way.
absl::Status AppendCall::Explain(const absl::Status& status) {
  if (Cancelled()) return status;
  absl::MutexLock lock(&mutex_);
  if (!begun_) return status;
  const std::string reached =
      absl::StrCat("; acknowledged up to offset ", acknowledged_);
  if (absl::IsNotFound(status)) {
    return WithMessage(
        status, absl::StrCat("the session went away during the append: it was "
                             "deleted, or the server restarted and does not "
                             "keep sessions: ",
                             status.message(), reached));
  }
  if (!ReasonMetadata(status, "uid").empty()) {
    return WithMessage(status,
                       absl::StrCat("another session has the name now: ",
                                    status.message(), reached));
  }
  return WithMessage(status, absl::StrCat(status.message(), reached));
}

absl::Status CheckOptions(const AppendOptions& options) {
  if (options.message_bytes < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "message_bytes is ", options.message_bytes, ", wanted at least 1"));
  }
  if (options.resume && options.start_offset.has_value()) {
    return absl::InvalidArgumentError(
        "resume and start_offset exclude each other");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<AppendResult> Client::AppendText(const std::string& session,
                                                const TextSource& source,
                                                const AppendOptions& options) {
  const absl::Status checked = CheckOptions(options);
  if (!checked.ok()) return checked;
  AppendCall call(stubs_->memory.get(), &stubs_->calls, options_, session,
                  v1::Session::TEXT, options);
  return call.Run(source);
}

absl::StatusOr<AppendResult> Client::AppendTokens(
    const std::string& session, const TokenSource& source,
    const AppendOptions& options) {
  const absl::Status checked = CheckOptions(options);
  if (!checked.ok()) return checked;
  AppendCall call(stubs_->memory.get(), &stubs_->calls, options_, session,
                  v1::Session::TOKENS, options);
  return call.Run([&source](int64_t max_units) -> absl::StatusOr<std::string> {
    const absl::StatusOr<std::vector<int32_t>> ids = source(max_units);
    if (!ids.ok()) return ids.status();
    return TokenBytes(*ids);
  });
}

}  // namespace mneme::client
