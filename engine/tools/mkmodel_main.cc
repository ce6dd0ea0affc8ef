// SPDX-License-Identifier: Apache-2.0
//
// mneme-mkmodel: writes a model of a named size with random weights.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <iostream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/tools/presets.h"

int main(int argc, char** argv) {
  CLI::App app("Writes a random-weight model of a named size.");
  std::string preset;
  std::string out;
  uint64_t seed = 1;
  app.add_option("--preset", preset,
                 "One of: " + absl::StrJoin(mneme::PresetNames(), ", "))
      ->required();
  app.add_option("--seed", seed, "Start of the random numbers")
      ->check([](const std::string& text) -> std::string {
        uint64_t number = 0;  // CLI11 itself lets others wrap
        if (absl::SimpleAtoi(text, &number)) return "";
        return absl::StrCat("found ", text, ", wanted 0 to ", UINT64_MAX);
      })
      ->capture_default_str();
  app.add_option("--out", out, "Directory to write")->required();
  CLI11_PARSE(app, argc, argv);

  absl::StatusOr<mneme::ModelConfig> config = mneme::PresetConfig(preset);
  absl::Status status = config.status();
  if (status.ok()) status = mneme::WriteRandomModel(*config, seed, out);
  if (!status.ok()) {
    std::cerr << "mneme-mkmodel: " << status.message() << "\n";
    return 1;
  }
  std::cout << "wrote " << out << "\n";
  return 0;
}
