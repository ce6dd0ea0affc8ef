// SPDX-License-Identifier: Apache-2.0
//
// Works on many sessions by a script that depends on a seed alone, and says
// what is done; killed and started again it goes on where it was.
//
//   crash_driver --seed N --sessions N --steps N --memory BYTES
//                [--data DIR] MODEL_DIR...
//
// Reads what is known of earlier runs, lines of "begin SESSION STEP OFFSET" and
// "done SESSION STEP", up to "go". Writes the same, and at the end "digest ID
// STATE HISTORY OFFSET" for every session. Without --data sessions are kept in
// memory: that is how it should end.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "engine/base/errors.h"
#include "engine/engine.h"
#include "tests/support/engine_driver.h"

namespace mneme {
namespace {

void Say(const std::string& line) {
  const std::string whole = line + "\n";
  if (write(STDOUT_FILENO, whole.data(), whole.size()) < 0) std::_Exit(3);
}

[[noreturn]] void Die(const std::string& what) {
  Say("error " + what);
  std::_Exit(4);
}

// Calls `start` with a function that takes the outcome, and waits for it.
template <typename T, typename Start>
absl::StatusOr<T> Wait(Start start) {
  absl::Notification ended;
  absl::StatusOr<T> outcome;
  start([&](absl::StatusOr<T> told) {
    outcome = std::move(told);
    ended.Notify();
  });
  ended.WaitForNotification();
  return outcome;
}

struct Known {
  int next_step = 0;
  std::map<int, int64_t> begins;
};

class Script {
 public:
  Script(Engine* engine, int seed, int models, int steps)
      : engine_(engine), seed_(seed), models_(models), steps_(steps) {}

  void Run(int session, Known known) {
    const std::string id = absl::StrCat("s", session);
    const std::string model = absl::StrCat("m", session % models_);
    const absl::StatusOr<SessionInfo> made =
        engine_->CreateSession({.id = id, .model = model});
    if (!made.ok() && !absl::IsAlreadyExists(made.status())) {
      Die(absl::StrCat(id, ": ", made.status().ToString()));
    }
    for (int step = known.next_step; step < steps_; ++step) {
      if (known.begins.count(step) == 0) {
        const absl::StatusOr<SessionInfo> info = engine_->GetSession(id);
        if (!info.ok()) Die(absl::StrCat(id, ": ", info.status().ToString()));
        known.begins[step] = info->next_offset;
        Say(absl::StrCat("begin ", session, " ", step, " ", info->next_offset));
      }
      const absl::Status status = Do(id, session, step, known.begins);
      if (!status.ok()) {
        Die(absl::StrCat(id, " step ", step, ": ", status.ToString()));
      }
      Say(absl::StrCat("done ", session, " ", step));
    }
  }

 private:
  absl::Status Do(const std::string& id, int session, int step,
                  const std::map<int, int64_t>& begins) {
    std::mt19937 random(seed_ * 1000003 + session * 1009 + step);
    const int64_t begin = begins.at(step);
    switch (random() % 12) {
      case 0:
      case 1:
      case 2:
        return Generate(id, step, random);
      case 3:
        if (step == 0) return Append(id, begin, random);
        return Rollback(id, std::min(begin, begins.at(step - 1)));
      case 4:
        return Allow(absl::StatusCode::kAlreadyExists,
                     Wait<SessionInfo>([&](const auto& done) {
                       engine_->ForkSession(
                           {.source = id, .id = absl::StrCat(id, "-f", step)},
                           done);
                     }).status());
      case 5:
        return Allow(absl::StatusCode::kAlreadyExists,
                     Wait<SnapshotInfo>([&](const auto& done) {
                       engine_->CreateSnapshot(
                           {.session = id, .name = absl::StrCat("k", step)},
                           done);
                     }).status());
      case 6:
        return Allow(absl::StatusCode::kUnimplemented,
                     Wait<SegmentCommit>([&](const auto& done) {
                       engine_->CommitSegment({.session = id}, done);
                     }).status());
      default:
        return Append(id, begin, random);
    }
  }

  static absl::Status Allow(absl::StatusCode code, const absl::Status& status) {
    return status.code() == code ? absl::OkStatus() : status;
  }

  absl::Status Append(const std::string& id, int64_t begin,
                      std::mt19937& random) {
    std::string text(1 + random() % 700, ' ');
    for (char& c : text) c = static_cast<char>('a' + random() % 26);
    ProgressWaiter waiter;
    auto stream = engine_->OpenAppend({.session = id}, &waiter);
    if (!stream.ok()) return stream.status();
    AppendStream& append = **stream;
    const int64_t held = append.opened().next_offset;
    const int64_t end = begin + static_cast<int64_t>(text.size());
    if (held < begin || held > end) {
      Die(absl::StrCat(id, " holds ", held, ", not ", begin, " to ", end));
    }
    if (append.opened().durability == Durability::kSynced &&
        append.opened().durable_offset != held) {
      Die(absl::StrCat(id, " holds ", held, " and promises ",
                       append.opened().durable_offset));
    }
    for (int64_t at = 0; at < static_cast<int64_t>(text.size());) {
      const int64_t size = 1 + random() % 200;
      const AppendStream::Segment segment{.offset = begin + at,
                                          .payload = text.substr(at, size)};
      while (true) {
        const auto taken = append.Write(segment);
        if (!taken.ok()) return taken.status();
        if (!taken->verified) Die(id + ": a duplicate was not compared");
        if (taken->offer == Offer::kTaken) break;
        waiter.Wait();
      }
      at += size;
    }
    while (true) {
      const AppendProgress progress = append.progress();
      const bool stored = append.opened().durability == Durability::kNone ||
                          progress.durable_offset >= end;
      if (stored && progress.idle) return append.status();
      if (!append.status().ok()) return append.status();
      if (!waiter.Wait()) return absl::DeadlineExceededError("append");
    }
  }

  absl::Status Generate(const std::string& id, int step, std::mt19937& random) {
    GenerateOptions options;
    options.session = id;
    options.prompt = "Q" + std::string(random() % 90, 'q');
    options.max_tokens = 1 + static_cast<int64_t>(random() % 40);
    options.request_id = absl::StrCat(id, "-", step);
    options.request_digest = absl::StrCat(step);
    options.sampling.seed = random();
    options.logprobs = random() % 3 == 0;
    if (random() % 4 == 0) options.on_disconnect = OnDisconnect::kFinish;
    return GenerateAll(*engine_, options).status();
  }

  absl::Status Rollback(const std::string& id, int64_t offset) {
    return Wait<SessionInfo>([&](const auto& done) {
             engine_->RollbackSession({.session = id, .offset = offset}, done);
           })
        .status();
  }

  Engine* const engine_;
  const int seed_;
  const int models_;
  const int steps_;
};

int Main(int argc, char** argv) {
  std::map<std::string, std::string> flags;
  std::vector<std::string> directories;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("--", 0) == 0 && i + 1 < argc) {
      flags[word.substr(2)] = argv[++i];
    } else {
      directories.push_back(word);
    }
  }
  const int sessions = std::atoi(flags["sessions"].c_str());
  std::vector<Known> known(sessions);
  for (std::string line; std::getline(std::cin, line) && line != "go";) {
    std::istringstream words(line);
    std::string what;
    int session = 0;
    int step = 0;
    int64_t offset = 0;
    words >> what >> session >> step >> offset;
    if (session < 0 || session >= sessions) Die("no session " + line);
    if (what == "begin") known[session].begins[step] = offset;
    if (what == "done") known[session].next_step = step + 1;
  }
  auto engine = Engine::Create(
      {.threads = 1,
       .session_memory_bytes = std::atoll(flags["memory"].c_str()),
       .data_directory = flags["data"],
       .snapshot_interval_tokens = 300,
       .snapshots_kept = 40});
  if (!engine.ok()) Die(engine.status().ToString());
  for (size_t i = 0; i < directories.size(); ++i) {
    const absl::Status loaded =
        (*engine)->LoadModel(absl::StrCat("m", i), directories[i]);
    if (!loaded.ok()) Die(loaded.ToString());
  }
  Say("ready");
  Script script(engine->get(), std::atoi(flags["seed"].c_str()),
                static_cast<int>(directories.size()),
                std::atoi(flags["steps"].c_str()));
  constexpr int kThreads = 6;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int session = thread; session < sessions; session += kThreads) {
        script.Run(session, known[session]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const SessionInfo& session : (*engine)->ListSessions("", 1 << 20, {})) {
    const absl::StatusOr<SessionInfo> info = Describe(**engine, session.id);
    if (!info.ok()) Die(info.status().ToString());
    Say(absl::StrCat("digest ", info->id, " ", info->state_digest, " ",
                     info->history_digest, " ", info->next_offset));
  }
  engine->reset();
  Say("end");
  return 0;
}

}  // namespace
}  // namespace mneme

int main(int argc, char** argv) { return mneme::Main(argc, argv); }
