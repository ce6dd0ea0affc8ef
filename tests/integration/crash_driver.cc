// SPDX-License-Identifier: Apache-2.0
//
// Works on many sessions of a daemon by a script that depends on a seed alone,
// and goes on with it however often the daemon goes away and comes back.
//
//   crash_driver --address ADDRESS --seed N --sessions N --steps N MODEL...
//
// Writes "done SESSION STEP" after each step; at the end, for every session of
// the daemon, "session ID ..." with all that a client can see of it, for every
// session of the script "replies ID DIGEST", and "breaks N", how many calls the
// daemon left without an end. On the way it is checked that what was promised
// is there, and that what is asked twice is answered alike. With --steps 0
// nothing is done but to look.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "client/history_digest.h"
#include "client/status.h"

namespace mneme::client {
namespace {

void Say(const std::string& line) {
  const std::string whole = line + "\n";
  if (write(STDOUT_FILENO, whole.data(), whole.size()) < 0) std::_Exit(3);
}

[[noreturn]] void Die(const std::string& what) {
  Say("error " + what);
  std::_Exit(4);
}

template <typename T>
T Take(absl::StatusOr<T> result, const std::string& what) {
  if (!result.ok()) Die(absl::StrCat(what, ": ", result.status().ToString()));
  return *std::move(result);
}

std::string SessionName(const std::string& id) { return "sessions/" + id; }

std::string Letters(int64_t size, std::mt19937& random) {
  std::string text(static_cast<size_t>(size), ' ');
  for (char& c : text) c = static_cast<char>('a' + random() % 26);
  return text;
}

std::atomic<int64_t> breaks = 0;

// The script of one session, step by step.
class Script {
 public:
  Script(Client* client, int seed, int number, const std::string& model)
      : client_(client),
        seed_(seed),
        number_(number),
        id_(absl::StrCat("s", number)),
        name_(SessionName(id_)) {
    v1::CreateSessionRequest request;
    request.set_session_id(id_);
    request.mutable_session()->set_model("models/" + model);
    request.set_request_id(absl::StrCat(seed, "-", id_));
    uid_ = Take(client->CreateSession(request), id_).uid();
  }

  void Do(int step) {
    std::mt19937 random(
        static_cast<unsigned>(seed_ * 1000003 + number_ * 1009 + step));
    step_ = step;
    begins_.push_back(next_offset_);
    switch (random() % 16) {
      case 0:
      case 1:
      case 2:
      case 3:
        Generate(random);
        break;
      case 4:
        RollBackTo(std::max(
            floor_, std::min(next_offset_, begins_[std::max(step - 1, 0)])));
        break;
      case 5:
        Fork(random);
        break;
      case 6:
        Keep();
        break;
      case 7:
        CommitSegment();
        break;
      case 8:
        Score(random);
        break;
      case 9:
        Drop(random);
        break;
      case 10:
        if (random() % 8 == 0) {
          Reset();
        } else {
          RollBackToSnapshot(random);
        }
        break;
      case 11:
        Label();
        break;
      default:
        Append(random);
    }
    Say(absl::StrCat("done ", number_, " ", step));
  }

  void TellReplies() const {
    Say(absl::StrCat("replies ", id_, " ", replies_.Hex()));
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    Die(absl::StrCat(id_, " step ", step_, ": ", what));
  }
  template <typename T>
  T Want(absl::StatusOr<T> result) const {
    return Take(std::move(result), absl::StrCat(id_, " step ", step_));
  }
  std::string RequestId() const {
    return absl::StrCat(seed_, "-", id_, "-", step_);
  }
  std::string SnapshotName(const std::string& snapshot) const {
    return absl::StrCat(name_, "/snapshots/", snapshot);
  }

  // What an answer says of the change, and not of where the session is by then.
  static std::string Essence(const v1::Session& session) {
    return absl::StrCat(session.name(), " ", session.uid(), " ",
                        session.epoch(), " ", session.next_offset(), " ",
                        session.etag());
  }
  static std::string Essence(const v1::Snapshot& snapshot) {
    return snapshot.DebugString();
  }

  // Makes a call that changes something, every third time twice.
  template <typename Request, typename Response>
  Response Ask(absl::StatusOr<Response> (Client::*method)(const Request&),
               Request request) {
    request.set_request_id(RequestId());
    const Response first = Want((client_->*method)(request));
    if (step_ % 3 == 0) {
      const Response again = Want((client_->*method)(request));
      if (Essence(again) != Essence(first)) {
        Fail(absl::StrCat("found ", again.ShortDebugString(),
                          " when it was asked again, wanted ",
                          first.ShortDebugString()));
      }
    }
    return first;
  }
  template <typename Request>
  void Ask(absl::Status (Client::*method)(const Request&), Request request) {
    request.set_request_id(RequestId());
    for (int i = 0; i < (step_ % 3 == 0 ? 2 : 1); ++i) {
      const absl::Status status = (client_->*method)(request);
      if (!status.ok()) Fail(std::string(status.ToString()));
    }
  }

  void CheckOpened(const v1::AppendResponse::Opened& opened) {
    if (opened.uid() != uid_) Fail("it is another session");
    const bool fsync = opened.durability() == v1::Session::FSYNC;
    if (fsync && opened.durable_offset() < promised_) {
      Fail(absl::StrCat("found ", opened.durable_offset(),
                        " durable, promised were ", promised_));
    }
  }

  void Append(std::mt19937& random) {
    const std::string text = Letters(1 + random() % 700, random);
    AppendOptions options;
    options.uid = uid_;
    options.start_offset = next_offset_;
    options.message_bytes = 1 + random() % 200;
    options.on_response = [this](const v1::AppendResponse& response) {
      if (response.has_opened()) CheckOpened(response.opened());
      if (response.has_ack()) {
        promised_ = std::max(promised_, response.ack().durable_offset());
      }
    };
    for (int i = 0; i < (step_ % 4 == 0 ? 2 : 1); ++i) {
      size_t given = 0;
      const TextSource source =
          [&](int64_t max_bytes) -> absl::StatusOr<std::string> {
        std::string piece = text.substr(given, static_cast<size_t>(max_bytes));
        given += piece.size();
        return piece;
      };
      const AppendResult result =
          Want(client_->AppendText(name_, source, options));
      breaks += result.breaks;
      if (!result.verified) Fail("a duplicate was not compared");
      if (result.end_offset !=
          next_offset_ + static_cast<int64_t>(text.size())) {
        Fail(absl::StrCat("the append ended at ", result.end_offset));
      }
    }
    next_offset_ += static_cast<int64_t>(text.size());
  }

  void Generate(std::mt19937& random) {
    v1::GenerateRequest request;
    request.set_session(name_);
    request.set_uid(uid_);
    request.set_request_id(RequestId());
    request.set_text("Q" + std::string(random() % 90, 'q'));
    request.set_max_tokens(static_cast<int32_t>(1 + random() % 40));
    request.mutable_sampling()->set_seed(random());
    request.set_logprobs(random() % 3 == 0);
    bool leave = false;
    if (random() % 4 == 0) {
      request.set_on_disconnect(v1::GenerateRequest::FINISH);
      leave = random() % 2 == 0;
    }
    int64_t begin = -1;
    std::string text;
    std::string tokens;
    std::string logprobs;
    const auto on_response = [&](const v1::GenerateResponse& response) {
      if (response.has_started()) {
        if (begin >= 0 && response.started().offset() != begin) {
          Fail(absl::StrCat("the answer began at ", begin, ", and now at ",
                            response.started().offset()));
        }
        begin = response.started().offset();
      }
      text += response.text();
      for (const int32_t token : response.tokens()) {
        absl::StrAppend(&tokens, " ", token);
      }
      for (const v1::TokenLogprob& logprob : response.logprobs()) {
        absl::StrAppendFormat(&logprobs, " %.9g", logprob.logprob());
      }
      return leave && !text.empty() && !response.has_finished()
                 ? absl::CancelledError("to come back")
                 : absl::OkStatus();
    };
    while (true) {
      const absl::StatusOr<v1::GenerateResponse::Finished> finished =
          client_->Generate(request, on_response);
      if (finished.ok()) {
        replies_.Add(
            absl::StrCat(text, tokens, logprobs, " ", finished->finish_reason(),
                         " ", finished->stop_token(), " ",
                         finished->next_offset(), " ", finished->position()));
        next_offset_ = finished->next_offset();
        promised_ = std::max(promised_, finished->durable_offset());
        return;
      }
      if (std::exchange(leave, false) && absl::IsCancelled(finished.status())) {
        // It goes on without a reader.
      } else if (IsBrokenStream(finished.status())) {
        ++breaks;
      } else {
        Fail(std::string(finished.status().ToString()));
      }
      absl::SleepFor(absl::Milliseconds(5));
      if (!text.empty()) {
        request.set_output_offset(begin + static_cast<int64_t>(text.size()));
      }
    }
  }

  void Score(std::mt19937& random) {
    v1::ScoreRequest::Open open;
    open.set_session(name_);
    const std::string text = Letters(1 + random() % 100, random);
    absl::StatusOr<ScoreResult> result;
    while (true) {
      bool given = false;
      result =
          client_->ScoreText(open, [&](int64_t) -> absl::StatusOr<std::string> {
            return std::exchange(given, true) ? "" : text;
          });
      if (result.ok() || !IsBrokenStream(result.status())) break;
      ++breaks;
      absl::SleepFor(absl::Milliseconds(5));
    }
    const ScoreResult scored = Want(std::move(result));
    replies_.Add(absl::StrFormat("%d %.17g", scored.totals.tokens_scored(),
                                 scored.totals.logprob_sum()));
  }

  void CommitSegment() {
    v1::CommitSegmentRequest request;
    request.set_session(name_);
    const auto committed = client_->CommitSegment(request);
    if (!committed.ok() && !absl::IsUnimplemented(committed.status())) {
      Fail(std::string(committed.status().ToString()));
    }
  }

  // What a call that moved the session answered.
  void Moved(const v1::Session& session, int64_t wanted) {
    if (session.next_offset() != wanted) {
      Fail(absl::StrCat("it is at ", session.next_offset(), ", wanted ",
                        wanted));
    }
    next_offset_ = promised_ = wanted;
  }

  void RollBackTo(int64_t offset) {
    v1::RollbackSessionRequest request;
    request.set_name(name_);
    request.set_offset(offset);
    Moved(Ask(&Client::RollbackSession, request), offset);
  }

  void RollBackToSnapshot(std::mt19937& random) {
    if (snapshots_.empty()) return;
    auto kept = snapshots_.begin();
    std::advance(kept, random() % snapshots_.size());
    v1::RollbackSessionRequest request;
    request.set_name(name_);
    request.set_snapshot(SnapshotName(kept->first));
    Moved(Ask(&Client::RollbackSession, request), kept->second);
    floor_ = kept->second;
  }

  void Reset() {
    v1::ResetSessionRequest request;
    request.set_name(name_);
    Moved(Ask(&Client::ResetSession, request), 0);
    floor_ = 0;
  }

  void Keep() {
    v1::CreateSnapshotRequest request;
    request.set_parent(name_);
    request.set_snapshot_id(absl::StrCat("k", step_));
    const v1::Snapshot kept = Ask(&Client::CreateSnapshot, request);
    if (kept.offset() != next_offset_) {
      Fail(absl::StrCat("the snapshot is at ", kept.offset(), ", wanted ",
                        next_offset_));
    }
    promised_ = next_offset_;
    snapshots_[request.snapshot_id()] = kept.offset();
  }

  void Fork(std::mt19937& random) {
    const std::string id = absl::StrCat(id_, "-f", step_);
    std::string snapshot;
    if (!snapshots_.empty() && random() % 2 == 0) {
      snapshot = SnapshotName(snapshots_.rbegin()->first);
    }
    v1::Session made;
    if (!snapshot.empty() && random() % 2 == 0) {
      v1::CreateSessionRequest request;
      request.set_session_id(id);
      request.set_source_snapshot(snapshot);
      made = Ask(&Client::CreateSession, request);
    } else {
      v1::ForkSessionRequest request;
      request.set_source(name_);
      request.set_session_id(id);
      request.set_snapshot(snapshot);
      made = Ask(&Client::ForkSession, request);
    }
    const int64_t wanted =
        snapshot.empty() ? next_offset_ : snapshots_.rbegin()->second;
    if (made.next_offset() != wanted) {
      Fail(absl::StrCat("the fork is at ", made.next_offset(), ", wanted ",
                        wanted));
    }
    forks_.push_back(id);
  }

  // Deletes a fork or a snapshot, if there is one.
  void Drop(std::mt19937& random) {
    if (forks_.size() > 1 && random() % 2 == 0) {
      const auto fork = forks_.begin() + random() % forks_.size();
      v1::DeleteSessionRequest request;
      request.set_name(SessionName(*fork));
      Ask(&Client::DeleteSession, request);
      forks_.erase(fork);
    } else if (snapshots_.size() > 1) {
      v1::DeleteSnapshotRequest request;
      request.set_name(SnapshotName(snapshots_.begin()->first));
      Ask(&Client::DeleteSnapshot, request);
      snapshots_.erase(snapshots_.begin());
    }
  }

  void Label() {
    v1::UpdateSessionRequest request;
    request.mutable_session()->set_name(name_);
    (*request.mutable_session()->mutable_labels())["step"] =
        std::to_string(step_);
    Ask(&Client::UpdateSession, request);
  }

  Client* const client_;
  const int seed_;
  const int number_;
  const std::string id_;
  const std::string name_;
  std::string uid_;
  int step_ = 0;
  int64_t next_offset_ = 0;
  int64_t promised_ = 0;         // the highest offset said to be durable
  int64_t floor_ = 0;            // the lowest that it can be taken back to
  std::vector<int64_t> begins_;  // of each step
  std::map<std::string, int64_t> snapshots_;  // those kept, and their offsets
  std::vector<std::string> forks_;            // those that are there
  HistoryDigest replies_;
};

void TellSession(Client& client, const std::string& name) {
  v1::GetSessionRequest get;
  get.set_name(name);
  const v1::Session session = Take(client.GetSession(get), name);
  v1::VerifySessionRequest verify;
  verify.set_name(name);
  const auto verified = Take(client.VerifySession(verify), name);
  if (!verified.whole()) Die(absl::StrCat(name, ": ", verified.problem()));
  std::string line = absl::StrCat(
      "session ", name, " state=", session.state_digest(),
      " history=", session.history_digest(), " offset=", session.next_offset(),
      " position=", session.position(), " epoch=", session.epoch());
  for (const auto& [key, value] : session.labels()) {
    absl::StrAppend(&line, " ", key, "=", value);
  }
  v1::ListSnapshotsRequest list;
  list.set_parent(name);
  list.set_page_size(1000);
  const v1::ListSnapshotsResponse page = Take(client.ListSnapshots(list), name);
  for (const v1::Snapshot& kept : page.snapshots()) {
    if (kept.automatic()) continue;
    absl::StrAppend(&line, " ", kept.name(), "=", kept.state_digest(), "@",
                    kept.offset());
  }
  Say(line);
}

int Main(int argc, char** argv) {
  std::map<std::string, std::string> flags;
  std::vector<std::string> models;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("--", 0) == 0 && i + 1 < argc) {
      flags[word.substr(2)] = argv[++i];
    } else {
      models.push_back(word);
    }
  }
  const int seed = std::atoi(flags["seed"].c_str());
  const int sessions = std::atoi(flags["sessions"].c_str());
  const int steps = std::atoi(flags["steps"].c_str());

  // While all calls fail at once and none waits, gRPC looks this often whether
  // it is connected again; its default is 5 s.
  setenv("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "10", 1);
  ClientOptions options;
  options.metadata_timeout = absl::Minutes(2);
  options.max_attempts = 1 << 20;
  options.first_backoff = absl::Milliseconds(5);
  options.longest_backoff = absl::Milliseconds(50);
  options.longest_resume_backoff = absl::Milliseconds(50);
  const auto client = Take(Client::Connect(flags["address"], options), "");

  constexpr int kThreads = 6;
  std::vector<std::unique_ptr<Script>> scripts(sessions);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = thread; i < sessions; i += kThreads) {
        scripts[i] = std::make_unique<Script>(client.get(), seed, i,
                                              models[i % models.size()]);
      }
      for (int step = 0; step < steps; ++step) {
        for (int i = thread; i < sessions; i += kThreads) scripts[i]->Do(step);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  v1::ListSessionsRequest list;
  list.set_page_size(1000);
  do {
    const auto page = Take(client->ListSessions(list), "ListSessions");
    for (const v1::Session& session : page.sessions()) {
      TellSession(*client, session.name());
    }
    list.set_page_token(page.next_page_token());
  } while (!list.page_token().empty());
  for (const auto& script : scripts) script->TellReplies();
  Say(absl::StrCat("breaks ", breaks.load()));
  return 0;
}

}  // namespace
}  // namespace mneme::client

int main(int argc, char** argv) { return mneme::client::Main(argc, argv); }
