// SPDX-License-Identifier: Apache-2.0
//
// What the commands of `mneme` share.
#ifndef MNEME_CLIENT_CLI_H_
#define MNEME_CLIENT_CLI_H_

#include <google/protobuf/message.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/client.h"
#include "client/interrupts.h"

namespace mneme::client {

// Exit codes; the README lists them for users.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnreachable = 3;
inline constexpr int kExitInterrupted = 130;

// What every command gets.
struct Cli {
  Client* client = nullptr;
  // Prints proto3 JSON instead of text.
  bool json = false;
  // Set by SIGTERM, and by SIGINT unless a handler takes care of that; then by
  // the command that ends for it.
  std::atomic<bool>* interrupted = nullptr;
  Interrupts* interrupts = nullptr;
};

// `labels` are KEY=VALUE each.
void SetLabels(const std::vector<std::string>& labels, v1::Session* session);

// "sessions/alice" for ("sessions/", "alice") and also for the full name.
std::string ResourceName(const std::string& collection, const std::string& id);

// "sessions/alice/snapshots/noon" for ("alice", "noon"), and also if either or
// both are full names.
std::string SnapshotName(const std::string& session, const std::string& id);

// `id` without the collection, where a request wants it so.
std::string ResourceId(const std::string& collection, const std::string& id);

// The message as proto3 JSON on one line of standard output, fields without
// presence included.
absl::Status PrintJson(const google::protobuf::Message& message);

// `text` as it is to standard output, at once.
absl::Status Print(const std::string& text);

// Whether standard error is a terminal.
bool StderrIsTerminal();

// Tells standard error what went wrong, if anything did, and returns the exit
// code. `address` is the server's.
int ReportStatus(const absl::Status& status, const std::string& address);

}  // namespace mneme::client

#endif  // MNEME_CLIENT_CLI_H_
