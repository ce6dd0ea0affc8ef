// SPDX-License-Identifier: Apache-2.0
//
// mneme-parity: checks a checkpoint against what another implementation
// computed from it. Exit status 0 only if every tensor of every case agrees.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/ops/cpu/cpu_backend.h"
#include "engine/ops/reference/reference_backend.h"
#include "engine/tools/parity.h"

int main(int argc, char** argv) {
  CLI::App app(
      "Checks reference cases (directories of config.json, model.safetensors "
      "and expected.safetensors).");
  std::vector<std::string> cases;
  mneme::ParityOptions options;
  std::string backend_name = "cpu";
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  const std::map<std::string, mneme::ParityPath> paths = {
      {"block", mneme::ParityPath::kBlock},
      {"step", mneme::ParityPath::kStep},
      {"mixed", mneme::ParityPath::kMixed}};
  app.add_option("case", cases, "Directories of cases")->required();
  app.add_option("--path", options.path,
                 "Compute path: block, step or mixed (the default)")
      ->transform(CLI::CheckedTransformer(paths));
  app.add_option("--cuts", options.cuts,
                 "Sizes of the messages, repeated as needed")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  app.add_option("--block-tokens", options.block_tokens, "Tokens per block")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--tolerance", options.tolerance,
                 "Largest absolute difference allowed")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option_function<std::string>(
      "--infini-gate",
      [&options](const std::string& gate) {
        options.settings["infini_gate"] =
            gate == "-inf" || gate == "inf" ? '"' + gate + '"' : gate;
      },
      "Serve a plain Llama as Infini-attention with this gate in all heads, "
      "before the sigmoid; -inf switches the memory off");
  app.add_option("--dump", options.dump,
                 "File for what was computed (safetensors); one case only");
  app.add_option("--backend", backend_name, "cpu or reference")
      ->check(CLI::IsMember({"cpu", "reference"}))
      ->capture_default_str();
  app.add_option("--threads", threads, "Workers")->check(CLI::Range(1, 256));
  CLI11_PARSE(app, argc, argv);
  if (!options.dump.empty() && cases.size() != 1) {
    std::cerr << "mneme-parity: --dump takes one case, found " << cases.size()
              << "\n";
    return 2;
  }

  const std::unique_ptr<mneme::Backend> backend =
      backend_name == "cpu" ? mneme::MakeCpuBackend(std::max(threads, 1))
                            : mneme::MakeReferenceBackend();
  bool all_passed = true;
  for (const std::string& directory : cases) {
    const absl::StatusOr<std::vector<mneme::ParityLine>> lines =
        mneme::RunParity(directory, options, *backend);
    if (!lines.ok()) {
      std::cerr << "mneme-parity: " << directory << ": "
                << lines.status().message() << "\n";
      all_passed = false;
      continue;
    }
    for (const mneme::ParityLine& line : *lines) {
      std::printf("%s %s %s %s max_abs=%.3g max_rel=%.3g tolerance=%g\n",
                  line.passed ? "pass" : "FAIL", directory.c_str(),
                  line.tensor.c_str(), line.shape.c_str(), line.max_abs,
                  line.max_rel, line.tolerance);
      all_passed = all_passed && line.passed;
    }
  }
  return all_passed ? 0 : 1;
}
