// SPDX-License-Identifier: Apache-2.0
#include "client/load.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

namespace mneme::client {
namespace {

constexpr absl::Duration kLook = absl::Milliseconds(100);

// Numbers from a seed, the same with every standard library (whose
// distributions differ).
class Numbers {
 public:
  explicit Numbers(uint64_t seed) : engine_(seed) {}
  uint64_t Below(uint64_t limit) { return engine_() % limit; }
  double Unit() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }

 private:
  std::mt19937_64 engine_;
};

struct Request {
  int64_t number = 0;
  absl::Time due;
};

// Hands out the requests, each once, when it is due.
class Schedule {
 public:
  Schedule(const LoadOptions& options, const std::function<bool()>& stopped)
      : options_(options), stopped_(stopped), arrivals_(options.seed) {}

  // Begins to count and to measure time.
  void Start() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    start_ = next_due_ = absl::Now();
  }

  // Waits for the next request; nothing when the load is over.
  std::optional<Request> Next() ABSL_LOCKS_EXCLUDED(mutex_) {
    Request request;
    {
      absl::MutexLock lock(&mutex_);
      if (options_.requests > 0 && handed_out_ == options_.requests) {
        return std::nullopt;
      }
      if (options_.arrivals == Arrivals::kClosed) {
        request.due = absl::Now();
      } else {
        request.due = next_due_;
        const double gap = options_.arrivals == Arrivals::kPoisson
                               ? -std::log(1 - arrivals_.Unit())
                               : 1;
        next_due_ += absl::Seconds(gap / options_.requests_per_second);
      }
      if (options_.duration > absl::ZeroDuration() &&
          request.due >= start_ + options_.duration) {
        return std::nullopt;
      }
      request.number = handed_out_++;
    }
    while (!stopped_()) {
      const absl::Duration left = request.due - absl::Now();
      if (left <= absl::ZeroDuration()) return request;
      absl::SleepFor(std::min(left, kLook));
    }
    return std::nullopt;
  }

 private:
  const LoadOptions& options_;
  const std::function<bool()>& stopped_;
  absl::Mutex mutex_;
  Numbers arrivals_ ABSL_GUARDED_BY(mutex_);
  absl::Time start_ ABSL_GUARDED_BY(mutex_);
  absl::Time next_due_ ABSL_GUARDED_BY(mutex_);
  int64_t handed_out_ ABSL_GUARDED_BY(mutex_) = 0;
};

v1::GenerateRequest MakeRequest(const LoadOptions& options,
                                const v1::Session& session, int64_t number,
                                int32_t vocab_size) {
  // A stream of numbers for each request, whoever sends it.
  Numbers numbers(options.seed * 0x9e3779b97f4a7c15 +
                  static_cast<uint64_t>(number));
  v1::GenerateRequest request;
  request.set_session(session.name());
  request.set_uid(session.uid());
  if (session.unit() == v1::Session::TOKENS) {
    for (int64_t i = 0; i < options.prompt_bytes; ++i) {
      request.mutable_tokens()->add_ids(static_cast<int32_t>(
          numbers.Below(static_cast<uint64_t>(vocab_size))));
    }
  } else if (options.prompt_bytes > 0) {
    std::string text;
    while (static_cast<int64_t>(text.size()) < options.prompt_bytes) {
      const uint64_t letter = numbers.Below(32);
      text.push_back(letter < 26 ? static_cast<char>('a' + letter) : ' ');
    }
    request.set_text(std::move(text));
  }
  request.set_max_tokens(options.answer_tokens);
  request.set_ignore_eos(true);
  request.mutable_sampling()->set_seed(numbers.Below(UINT64_MAX));
  return request;
}

// Makes one request and adds what it took.
void Ask(Client* client, const v1::GenerateRequest& request, absl::Time due,
         LoadResult* result) {
  result->sent_late.Add(absl::Now() - due);
  std::optional<absl::Time> last;
  const auto finished =
      client->Generate(request, [&](const v1::GenerateResponse& response) {
        if (response.tokens().empty()) return absl::OkStatus();
        const absl::Time now = absl::Now();
        const int tokens = response.tokens_size();
        int joined = tokens;
        if (!last.has_value()) {
          result->first_token.Add(now - due);
          joined = 0;
        }
        // Tokens of one message came together: each took its share.
        for (int i = 0; i < joined; ++i) {
          result->between_tokens.Add((now - *last) / tokens);
        }
        last = now;
        return absl::OkStatus();
      });
  if (!finished.ok()) {
    ++result->errors[absl::StatusCodeToString(finished.status().code())];
    return;
  }
  result->whole.Add(absl::Now() - due);
  ++result->answered;
  result->prompt_tokens += finished->stats().prompt_tokens();
  result->generated_tokens += finished->stats().generated_tokens();
}

void Merge(const LoadResult& part, LoadResult* all) {
  all->first_token.Add(part.first_token);
  all->whole.Add(part.whole);
  all->between_tokens.Add(part.between_tokens);
  all->sent_late.Add(part.sent_late);
  all->answered += part.answered;
  all->prompt_tokens += part.prompt_tokens;
  all->generated_tokens += part.generated_tokens;
  for (const auto& [code, count] : part.errors) all->errors[code] += count;
}

absl::Status CheckOptions(const LoadOptions& options) {
  const auto bad = [](absl::string_view what) {
    return absl::InvalidArgumentError(what);
  };
  if (options.sessions < 1) return bad("sessions: wanted at least 1");
  if (options.requests < 1 && options.duration <= absl::ZeroDuration()) {
    return bad("wanted a number of requests or a duration");
  }
  if (options.arrivals != Arrivals::kClosed &&
      !(options.requests_per_second > 0)) {
    return bad("requests_per_second: wanted a number above 0");
  }
  if (options.prompt_bytes < 1) return bad("prompt_bytes: wanted at least 1");
  if (options.answer_tokens < 1) return bad("answer_tokens: wanted at least 1");
  return absl::OkStatus();
}

// The load's sessions; gone when this is.
class OwnSessions {
 public:
  explicit OwnSessions(Client* client) : client_(client) {}
  ~OwnSessions() {
    for (const std::string& name : names_) {
      v1::DeleteSessionRequest request;
      request.set_name(name);
      client_->DeleteSession(request).IgnoreError();  // it expires then
    }
  }
  OwnSessions(const OwnSessions&) = delete;
  OwnSessions& operator=(const OwnSessions&) = delete;

  // Fewer once `stopped`.
  absl::Status Make(const LoadOptions& options,
                    const std::function<bool()>& stopped) {
    absl::BitGen random;
    const uint64_t load = absl::Uniform<uint64_t>(random);
    for (int i = 0; i < options.sessions; ++i) {
      if (stopped()) return absl::CancelledError("interrupted");
      v1::CreateSessionRequest request;
      // Named here, so that one whose answer was lost is deleted as well.
      request.set_session_id(absl::StrFormat("bench-%016x-%d", load, i));
      names_.push_back(absl::StrCat("sessions/", request.session_id()));
      v1::Session* const session = request.mutable_session();
      session->set_model(options.model);
      (*session->mutable_labels())["made-by"] = "mneme-bench";
      // Goes away by itself where a delete does not get through.
      session->mutable_ttl()->set_seconds(3600);
      absl::StatusOr<v1::Session> made = client_->CreateSession(request);
      if (!made.ok()) return made.status();
      sessions_.push_back(*std::move(made));
    }
    return absl::OkStatus();
  }

  const std::vector<v1::Session>& all() const { return sessions_; }

 private:
  Client* const client_;
  std::vector<std::string> names_;
  std::vector<v1::Session> sessions_;
};

absl::StatusOr<LoadResult> MakeSessionsAndAsk(
    Client* client, const LoadOptions& options,
    const std::function<bool()>& stopped) {
  OwnSessions sessions(client);
  absl::Status made = sessions.Make(options, stopped);
  if (!made.ok()) return made;
  v1::GetModelRequest get;
  get.set_name(sessions.all().front().model());
  const absl::StatusOr<v1::Model> model = client->GetModel(get);
  if (!model.ok()) return model.status();

  const auto on_every_session = [&](const auto& work) {
    std::vector<LoadResult> parts(sessions.all().size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < parts.size(); ++i) {
      threads.emplace_back([&, i] { work(i, sessions.all()[i], &parts[i]); });
    }
    for (std::thread& thread : threads) thread.join();
    return parts;
  };

  on_every_session([&](size_t i, const v1::Session& session, LoadResult* part) {
    for (int turn = 0; turn < options.warm_up && !stopped(); ++turn) {
      const int64_t number = -1 - turn * options.sessions - static_cast<int>(i);
      Ask(client, MakeRequest(options, session, number, model->vocab_size()),
          absl::Now(), part);
    }
  });

  Schedule schedule(options, stopped);
  const absl::Time start = absl::Now();
  schedule.Start();
  const std::vector<LoadResult> parts = on_every_session(
      [&](size_t, const v1::Session& session, LoadResult* part) {
        while (const std::optional<Request> request = schedule.Next()) {
          Ask(client,
              MakeRequest(options, session, request->number,
                          model->vocab_size()),
              request->due, part);
        }
      });
  LoadResult result;
  result.elapsed = absl::Now() - start;
  for (const LoadResult& part : parts) Merge(part, &result);
  return result;
}

}  // namespace

absl::StatusOr<LoadResult> RunLoad(Client* client, const LoadOptions& options,
                                   const std::function<bool()>& stopped) {
  absl::Status checked = CheckOptions(options);
  if (!checked.ok()) return checked;
  absl::StatusOr<LoadResult> result =
      MakeSessionsAndAsk(client, options, stopped);
  // Stopped before the first request: nothing was measured.
  if (!result.ok() && stopped()) return LoadResult();
  return result;
}

}  // namespace mneme::client
