// SPDX-License-Identifier: Apache-2.0
//
// Appends a different stretch of a text to each of many sessions at the same
// time, over a way that may lose connections, and compares the history digests
// that the server has in the end.
//
//   chaos_appends SERVER PROXY TEXT_FILE SESSIONS BYTES SEED
//
// Every session has a connection of its own through PROXY; sessions are made
// and looked at directly. Fails if nothing broke, because then nothing was
// tested.
#include <atomic>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/history_digest.h"

namespace mneme::client {
namespace {

struct Plan {
  std::string server;
  std::string proxy;
  std::string text;
  int64_t sessions = 0;
  int64_t bytes = 0;
  int64_t seed = 0;
};

// What one session found; OK if its history is what was sent.
absl::Status AppendOne(const Plan& plan, int64_t number,
                       std::atomic<int>* breaks) {
  std::mt19937_64 random(static_cast<uint64_t>(plan.seed * 1000 + number));
  std::string sent;
  while (static_cast<int64_t>(sent.size()) < plan.bytes) {
    sent += plan.text.substr(random() % plan.text.size(),
                             static_cast<size_t>(plan.bytes) - sent.size());
  }

  const auto direct = *Client::Connect(plan.server);
  v1::CreateSessionRequest create;
  create.set_session_id(absl::StrCat("chaos-", number));
  const auto session = direct->CreateSession(create);
  if (!session.ok()) return session.status();

  ClientOptions options;
  options.first_backoff = absl::Milliseconds(20);
  options.longest_resume_backoff = absl::Milliseconds(500);
  options.max_attempts = 1000;  // the first stream may be broken often
  const auto client = *Client::Connect(plan.proxy, options);
  size_t given = 0;
  const TextSource source =
      [&](int64_t max_bytes) -> absl::StatusOr<std::string> {
    const auto limit = static_cast<uint64_t>(max_bytes);
    // Sizes of every order.
    const uint64_t most = 1 + (limit - 1) / (uint64_t{1} << (random() % 10));
    std::string piece = sent.substr(given, 1 + random() % most);
    given += piece.size();
    return piece;
  };
  const auto appended = client->AppendText(session->name(), source);
  if (!appended.ok()) return appended.status();
  *breaks += appended->breaks;

  v1::GetSessionRequest get;
  get.set_name(session->name());
  const auto found = direct->GetSession(get);
  if (!found.ok()) return found.status();
  HistoryDigest wanted;
  wanted.Add(sent);
  if (found->next_offset() != plan.bytes ||
      found->history_digest() != wanted.Hex()) {
    return absl::DataLossError(absl::StrCat(
        "the history has ", found->next_offset(), " bytes with digest ",
        found->history_digest(), ", sent were ", plan.bytes, " with digest ",
        wanted.Hex()));
  }
  return absl::OkStatus();
}

int Run(const Plan& plan) {
  std::atomic<int> breaks = 0;
  std::atomic<int> failures = 0;
  std::vector<std::thread> threads;
  for (int64_t number = 0; number < plan.sessions; ++number) {
    threads.emplace_back([&, number] {
      const absl::Status status = AppendOne(plan, number, &breaks);
      if (status.ok()) return;
      ++failures;
      std::fprintf(
          stderr, "session %d: %s\n", static_cast<int>(number),
          status.ToString(absl::StatusToStringMode::kWithNoExtraData).c_str());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::printf("%d sessions of %d bytes, %d broken streams, %d failures\n",
              static_cast<int>(plan.sessions), static_cast<int>(plan.bytes),
              breaks.load(), failures.load());
  if (breaks == 0) std::fputs("no stream broke\n", stderr);
  return failures == 0 && breaks > 0 ? 0 : 1;
}

}  // namespace
}  // namespace mneme::client

int main(int argc, char** argv) {
  mneme::client::Plan plan;
  if (argc != 7 || !absl::SimpleAtoi(argv[4], &plan.sessions) ||
      !absl::SimpleAtoi(argv[5], &plan.bytes) ||
      !absl::SimpleAtoi(argv[6], &plan.seed)) {
    std::fputs("wanted SERVER PROXY TEXT_FILE SESSIONS BYTES SEED\n", stderr);
    return 2;
  }
  plan.server = argv[1];
  plan.proxy = argv[2];
  std::ifstream file(argv[3], std::ios::binary);
  plan.text.assign(std::istreambuf_iterator<char>(file), {});
  if (plan.text.empty()) {
    std::fprintf(stderr, "%s: no text\n", argv[3]);
    return 2;
  }
  return mneme::client::Run(plan);
}
