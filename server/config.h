// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_CONFIG_H_
#define MNEME_SERVER_CONFIG_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace mneme::server {

// The command line as it was typed.
struct Flags {
  std::string listen = "127.0.0.1:7600";
  std::string metrics_listen = "127.0.0.1:7601";
  std::string data_dir;
  std::vector<std::string> models;
  std::string session_memory;
  int threads = 0;
  bool ephemeral = false;
  double drain_timeout_seconds = 30;
};

// The same, understood.
struct Config {
  std::string listen;
  std::string metrics_listen;                               // empty: none
  std::vector<std::pair<std::string, std::string>> models;  // name, directory
  int64_t session_memory_bytes = 0;                         // 0: the default
  int threads = 0;                                          // 0: one per core
  bool ephemeral = false;
  absl::Duration drain_timeout;
};

// INVALID_ARGUMENT with a line for everything that is wrong.
absl::StatusOr<Config> ParseFlags(const Flags& flags);

// "4096", "512M", "2G": bytes, or with K, M, G or T powers of 1024 of them.
// INVALID_ARGUMENT for anything else, and for less than 1.
absl::StatusOr<int64_t> ParseSize(const std::string& text);

}  // namespace mneme::server

#endif  // MNEME_SERVER_CONFIG_H_
