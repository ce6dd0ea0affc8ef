// SPDX-License-Identifier: Apache-2.0
//
// A load on a server: sessions of its own, requests that arrive by a pattern,
// and what they took.
#ifndef MNEME_CLIENT_LOAD_H_
#define MNEME_CLIENT_LOAD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/latency.h"

namespace mneme::client {

enum class Arrivals {
  kClosed,    // each session asks again as soon as it was answered
  kConstant,  // at a fixed rate, all sessions together
  kPoisson,   // at random with that mean rate
};

struct LoadOptions {
  std::string model;  // empty: the server's choice
  int sessions = 4;
  Arrivals arrivals = Arrivals::kClosed;
  double requests_per_second = 1;  // where arrivals have a rate
  int64_t prompt_bytes = 256;      // or tokens, in token sessions
  int32_t answer_tokens = 64;
  // Requests that are made before counting begins, per session.
  int warm_up = 1;
  // Ends after so many counted requests, or so long; 0 means no limit, and
  // one of them is needed.
  int64_t requests = 0;
  absl::Duration duration = absl::ZeroDuration();
  uint64_t seed = 1;
};

struct LoadResult {
  // From a request's arrival: the moment it was due, not the one at which a
  // session was free to send it. So a server that stalls pays for everybody
  // who came meanwhile.
  Latencies first_token;
  Latencies whole;
  // Between the messages of an answer, divided by their tokens.
  Latencies between_tokens;
  // How late requests were sent because every session was busy.
  Latencies sent_late;
  int64_t answered = 0;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  absl::Duration elapsed;
  std::map<std::string, int64_t> errors;  // by status code
};

// Makes `options.sessions` sessions, runs the load, deletes them again, also
// when `stopped` (asked now and then) ends it early. The requests, their
// order, prompts and arrival times follow from the seed. INVALID_ARGUMENT;
// errors of making the sessions; requests that fail are counted instead.
absl::StatusOr<LoadResult> RunLoad(Client* client, const LoadOptions& options,
                                   const std::function<bool()>& stopped);

}  // namespace mneme::client

#endif  // MNEME_CLIENT_LOAD_H_
