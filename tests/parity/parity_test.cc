// SPDX-License-Identifier: Apache-2.0
//
// The reference cases under tests/golden, which other people's code computed,
// on every path, cut in every way.
#include "engine/tools/parity.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "engine/base/check.h"
#include "engine/model/safetensors.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/ops/reference/reference_backend.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

class ParityTest : public testing::TestWithParam<std::string> {
 protected:
  std::string directory() const {
    return std::string(MNEME_TEST_DATA) + "/" + GetParam();
  }

  void ExpectAgreement(const ParityOptions& options, Backend& backend) {
    const absl::StatusOr<std::vector<ParityLine>> lines =
        RunParity(directory(), options, backend);
    ASSERT_THAT(lines, IsOk());
    EXPECT_GE(lines->size(), 1u);
    for (const ParityLine& line : *lines) {
      EXPECT_TRUE(line.passed) << line.tensor << " differs by " << line.max_abs;
    }
  }
};

const std::vector<std::vector<int64_t>> kCuts = {{},   {1},         {7, 3},
                                                 {16}, {63, 2, 64}, {200}};

TEST_P(ParityTest, EveryPathAgreesHoweverTheTokensCome) {
  for (const int threads : {1, 2}) {
    const std::unique_ptr<Backend> backend = MakeCpuBackend(threads);
    for (const ParityPath path :
         {ParityPath::kBlock, ParityPath::kStep, ParityPath::kMixed}) {
      for (const std::vector<int64_t>& cuts : kCuts) {
        ExpectAgreement({.path = path, .cuts = cuts}, *backend);
      }
    }
  }
}

TEST_P(ParityTest, AnyBlockSizeAgrees) {
  const std::unique_ptr<Backend> backend = MakeCpuBackend(2);
  for (const int64_t block_tokens : {1, 5, 16, 48, 100, 128}) {
    for (const ParityPath path : {ParityPath::kBlock, ParityPath::kMixed}) {
      ExpectAgreement(
          {.path = path, .cuts = {9, 40}, .block_tokens = block_tokens},
          *backend);
    }
  }
}

TEST_P(ParityTest, TheReferenceBackendAgrees) {
  const std::unique_ptr<Backend> backend = MakeReferenceBackend();
  ExpectAgreement({.path = ParityPath::kMixed}, *backend);
}

TEST_P(ParityTest, ATolerancePastRoundingFails) {
  const std::unique_ptr<Backend> backend = MakeCpuBackend(1);
  const absl::StatusOr<std::vector<ParityLine>> lines =
      RunParity(directory(), {.tolerance = 1e-9}, *backend);
  ASSERT_THAT(lines, IsOk());
  int failed = 0;
  for (const ParityLine& line : *lines) failed += line.passed ? 0 : 1;
  EXPECT_GT(failed, 0);
}

TEST_P(ParityTest, DumpHoldsEveryComparedTensor) {
  const TempDir dir;
  const std::unique_ptr<Backend> backend = MakeCpuBackend(1);
  const std::string dump = dir.File("dump.safetensors");
  const absl::StatusOr<std::vector<ParityLine>> lines =
      RunParity(directory(), {.dump = dump}, *backend);
  ASSERT_THAT(lines, IsOk());
  const auto file = SafetensorsFile::Open(dump);
  ASSERT_THAT(file, IsOk());
  EXPECT_EQ((*file)->tensors().size(), lines->size());
}

// Plain weights with a memory that the gate switches off: inside one segment
// that is the attention they were trained with.
TEST(InfiniGateTest, PlainLlamaWithItsMemoryOffIsLlama) {
  const TempDir dir;
  const std::string from = std::string(MNEME_TEST_DATA) + "/decoders/llama";
  std::filesystem::copy(from, dir.path(),
                        std::filesystem::copy_options::recursive |
                            std::filesystem::copy_options::overwrite_existing);
  std::ifstream in(from + "/config.json");
  nlohmann::json config = nlohmann::json::parse(in);
  config.erase("attention_window");
  config.erase("attention_limit");
  std::ofstream(dir.File("config.json")) << config;
  const std::unique_ptr<Backend> backend = MakeCpuBackend(1);
  const auto run = [&](const char* gate) {
    return RunParity(dir.path(), {.settings = {{"infini_gate", gate}}},
                     *backend);
  };
  const absl::StatusOr<std::vector<ParityLine>> off = run("\"-inf\"");
  ASSERT_THAT(off, IsOk());
  for (const ParityLine& line : *off) EXPECT_TRUE(line.passed) << line.max_abs;
  const absl::StatusOr<std::vector<ParityLine>> on = run("0.5");
  ASSERT_THAT(on, IsOk());
  for (const ParityLine& line : *on) EXPECT_FALSE(line.passed);
}

TEST(TokenLimitTest, ASequenceBeyondTheLimitIsRefused) {
  const std::unique_ptr<Backend> backend = MakeCpuBackend(1);
  EXPECT_THAT(RunParity(std::string(MNEME_TEST_DATA) + "/decoders/gpt2",
                        {.settings = {{"attention_limit", "89"}}}, *backend),
              Fails(absl::StatusCode::kInvalidArgument,
                    "a sequence of 90 tokens, want at most 89"));
}

// The names of all cases, "infini/delta_mha".
std::vector<std::string> Cases() {
  std::vector<std::string> cases;
  for (const char* kind :
       {"decoders", "hybrid", "infini", "transformer_xl", "ttt"}) {
    size_t of_kind = 0;
    for (const auto& entry : std::filesystem::directory_iterator(
             std::filesystem::path(MNEME_TEST_DATA) / kind)) {
      cases.push_back(kind + ("/" + entry.path().filename().string()));
      ++of_kind;
    }
    MNEME_CHECK(of_kind >= 5);
  }
  std::sort(cases.begin(), cases.end());
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Golden, ParityTest, testing::ValuesIn(Cases()),
                         [](const auto& test) {
                           return absl::StrReplaceAll(test.param, {{"/", "_"}});
                         });

}  // namespace
}  // namespace mneme
