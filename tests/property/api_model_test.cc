// SPDX-License-Identifier: Apache-2.0
//
// Random calls of the engine against a model of what they ought to do. Quick:
// MNEME_PROPERTY_SECONDS=5; the first seed is MNEME_SEED. A seed that failed is
// tried alone with MNEME_PROPERTY_SECONDS=0.
#include <cstdlib>
#include <iostream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/property/api_caller.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

int FromEnvironment(const char* name, int otherwise) {
  const char* const value = std::getenv(name);
  int number = 0;
  if (value == nullptr || !absl::SimpleAtoi(value, &number)) return otherwise;
  return number;
}

// A seed says all: which calls, how many, and on what they are made.
ApiCaller::Setup SetupOf(uint32_t seed) {
  return {.seed = seed,
          .on_disk = seed % 2 == 0,
          .little_memory = seed / 2 % 2 == 0,
          .snapshots_kept = seed / 4 % 2 == 0 ? 1000 : 2};
}

TEST(ApiModelTest, WhateverIsCalledDoesWhatTheModelSays) {
  ModelFiles files;
  ASSERT_THAT(files.Make(), IsOk());
  const absl::Time end =
      absl::Now() + absl::Seconds(FromEnvironment("MNEME_PROPERTY_SECONDS", 5));
  const int calls = FromEnvironment("MNEME_PROPERTY_CALLS", 150);
  auto seed = static_cast<uint32_t>(FromEnvironment("MNEME_SEED", 1));
  const uint32_t first = seed;
  do {
    ApiCaller caller(&files, SetupOf(seed++));
    int done = 0;
    while (done < calls && caller.Step()) ++done;
    ASSERT_TRUE(done == calls && caller.Finish()) << caller.Report();
  } while (absl::Now() < end);
  std::cout << seed - first << " seeds of " << calls << " calls\n";
}

}  // namespace
}  // namespace mneme
