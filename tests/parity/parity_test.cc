// SPDX-License-Identifier: Apache-2.0
//
// The reference cases under tests/golden, which other people's code computed,
// on every path, cut in every way.
#include "engine/tools/parity.h"

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
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

INSTANTIATE_TEST_SUITE_P(
    Golden, ParityTest,
    testing::Values("decoders/llama", "decoders/llama_biases_tied_one_head",
                    "decoders/llama_rope_linear", "decoders/llama_rope_llama3",
                    "decoders/mistral_window", "decoders/qwen2",
                    "decoders/qwen3", "infini/delta_gqa", "infini/delta_mha",
                    "infini/linear_gqa_gate_alias_tied", "infini/linear_mha",
                    "infini/short_prompt_extreme_gates", "ttt/linear_mamba",
                    "ttt/linear_shareqk_k8_untied", "ttt/linear_transformer",
                    "ttt/mlp_gate_head32", "ttt/mlp_mamba",
                    "ttt/mlp_transformer_untied"),
    [](const auto& test) {
      return absl::StrReplaceAll(test.param, {{"/", "_"}});
    });

}  // namespace
}  // namespace mneme
