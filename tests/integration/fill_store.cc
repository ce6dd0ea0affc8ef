// SPDX-License-Identifier: Apache-2.0
//
// fill_store DIRECTORY COUNT NAME MODEL: a data directory with COUNT sessions
// of the model in the directory MODEL, called NAME.
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "engine/base/status_macros.h"
#include "engine/engine.h"
#include "tests/support/many_sessions.h"

namespace mneme {
namespace {

absl::Status Fill(const std::string& directory, const std::string& count,
                  const std::string& name, const std::string& model) {
  int64_t sessions = 0;
  if (!absl::SimpleAtoi(count, &sessions) || sessions < 0) {
    return absl::InvalidArgumentError(count + " is no number of sessions");
  }
  std::string fingerprint;
  {
    MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                           Engine::Create({.threads = 1}));
    MNEME_RETURN_IF_ERROR(engine->LoadModel(name, model));
    MNEME_ASSIGN_OR_RETURN(const ModelInfo info, engine->GetModel(name));
    fingerprint = info.fingerprint;
  }
  return WriteManySessions(directory, sessions, name, fingerprint);
}

}  // namespace
}  // namespace mneme

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: fill_store DIRECTORY COUNT NAME MODEL\n";
    return 2;
  }
  const absl::Status status = mneme::Fill(argv[1], argv[2], argv[3], argv[4]);
  if (status.ok()) return 0;
  std::cerr << "fill_store: " << status.message() << "\n";
  return 1;
}
