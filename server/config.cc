// SPDX-License-Identifier: Apache-2.0
#include "server/config.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/resource_id.h"
#include "server/names.h"

namespace mneme::server {
namespace {

constexpr int kMaxThreads = 1024;
constexpr double kMaxDrainSeconds = 86400;

bool IsHostAndPort(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) return false;
  int port = -1;
  return absl::SimpleAtoi(address.substr(colon + 1), &port) && port >= 0 &&
         port <= 65535;
}

bool IsListenAddress(const std::string& address) {
  constexpr size_t kPrefixBytes = 5;  // "unix:"
  if (absl::StartsWith(address, "unix:")) return address.size() > kPrefixBytes;
  return IsHostAndPort(address);
}

void ParseModels(const std::vector<std::string>& flags, Config* config,
                 std::vector<std::string>* errors) {
  if (flags.empty()) {
    errors->push_back(
        "--model: found none, wanted NAME=DIR at least once; there is no "
        "bundled model");
  }
  for (const std::string& flag : flags) {
    const size_t equals = flag.find('=');
    if (equals == std::string::npos || equals + 1 == flag.size() ||
        !IsResourceId(flag.substr(0, equals))) {
      errors->push_back(absl::StrCat(
          "--model: found \"", flag,
          "\", wanted NAME=DIR with a name of [A-Za-z0-9][A-Za-z0-9._-]*"));
      continue;
    }
    std::string name = flag.substr(0, equals);
    for (const auto& [other, directory] : config->models) {
      if (other == name) {
        errors->push_back(
            absl::StrCat("--model: the name \"", name, "\" came twice"));
      }
    }
    config->models.emplace_back(std::move(name), flag.substr(equals + 1));
  }
}

}  // namespace

absl::StatusOr<int64_t> ParseSize(const std::string& text) {
  std::string digits = text;
  int shift = 0;
  if (!digits.empty()) {
    switch (absl::ascii_toupper(static_cast<unsigned char>(digits.back()))) {
      case 'K':
        shift = 10;
        break;
      case 'M':
        shift = 20;
        break;
      case 'G':
        shift = 30;
        break;
      case 'T':
        shift = 40;
        break;
      default:
        break;
    }
  }
  if (shift > 0) digits.pop_back();
  int64_t count = 0;
  const bool plain = std::all_of(digits.begin(), digits.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
  if (!plain || !absl::SimpleAtoi(digits, &count) || count < 1 ||
      count > (std::numeric_limits<int64_t>::max() >> shift)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "found \"", text, "\", wanted a size such as 4096, 512M or 2G"));
  }
  return count << shift;
}

absl::StatusOr<Config> ParseFlags(const Flags& flags) {
  std::vector<std::string> errors;
  Config config;

  if (!IsListenAddress(flags.listen)) {
    errors.push_back(absl::StrCat("--listen: found \"", flags.listen,
                                  "\", wanted HOST:PORT or unix:PATH"));
  }
  config.listen = flags.listen;

  if (flags.metrics_listen != "none") {
    if (!IsHostAndPort(flags.metrics_listen)) {
      errors.push_back(absl::StrCat("--metrics-listen: found \"",
                                    flags.metrics_listen,
                                    "\", wanted HOST:PORT or none"));
    }
    config.metrics_listen = flags.metrics_listen;
  }

  if (!flags.data_dir.empty()) {
    errors.push_back(
        "--data-dir: this build keeps sessions in memory only and has nothing "
        "to put there");
  }

  ParseModels(flags.models, &config, &errors);

  if (!flags.session_memory.empty()) {
    const absl::StatusOr<int64_t> bytes = ParseSize(flags.session_memory);
    if (bytes.ok()) {
      config.session_memory_bytes = *bytes;
    } else {
      errors.push_back(
          absl::StrCat("--session-memory: ", bytes.status().message()));
    }
  }

  if (flags.threads < 0 || flags.threads > kMaxThreads) {
    errors.push_back(absl::StrCat("--threads: found ", flags.threads,
                                  ", wanted 0 to ", kMaxThreads));
  }
  config.threads = flags.threads;
  config.ephemeral = flags.ephemeral;

  if (!(flags.drain_timeout_seconds >= 0 &&
        flags.drain_timeout_seconds <= kMaxDrainSeconds)) {
    errors.push_back(absl::StrCat("--drain-timeout: found ",
                                  flags.drain_timeout_seconds, ", wanted 0 to ",
                                  kMaxDrainSeconds));
  }
  config.drain_timeout = absl::Seconds(flags.drain_timeout_seconds);

  if (!errors.empty()) {
    return absl::InvalidArgumentError(absl::StrJoin(errors, "\n"));
  }
  return config;
}

}  // namespace mneme::server
