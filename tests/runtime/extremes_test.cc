// SPDX-License-Identifier: Apache-2.0
//
// Input and weights made to drive the arithmetic out of its range. Whatever
// they are, a state's numbers are finite: a session that would leave them
// fails by name, keeps the state it had, and disturbs no other.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_replace.h"
#include "engine/base/errors.h"
#include "engine/engine.h"
#include "engine/model/safetensors.h"
#include "engine/tools/presets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

constexpr int kTokens = 10'000;

std::string Same() { return std::string(kTokens, 'a'); }
std::string Alternating() {
  std::string text;
  while (text.size() < kTokens) text += std::string("\x00\xff", 2);
  return text;
}
std::string Random() {
  std::mt19937 random(1);
  std::string text;
  while (text.size() < kTokens) text.push_back(static_cast<char>(random()));
  return text;
}

bool IsNotFinite(const absl::Status& status) {
  const absl::optional<ErrorReason> reason = GetReason(status);
  return status.code() == absl::StatusCode::kFailedPrecondition &&
         reason.has_value() && reason->reason == "NOT_FINITE";
}

class ExtremesTest : public testing::TestWithParam<std::string> {
 protected:
  ExtremesTest() : engine_(*Engine::Create({.threads = 1})) {
    Add("sane", 1.0f, "");
  }

  // Serves `config` after `change` was called with every tensor's name, shape
  // and values.
  template <typename Change>
  void Serve(const std::string& name, const ModelConfig& config,
             const Change& change) {
    const TempDir dir;
    ASSERT_THAT(WriteRandomModel(config, 3, dir.path()), IsOk());
    const std::string path = dir.File("model.safetensors");
    std::vector<std::vector<float>> changed;
    std::vector<NamedTensor> tensors;
    {
      const auto file = *SafetensorsFile::Open(path);
      for (const auto& [tensor, view] : file->tensors()) {
        const auto* values = static_cast<const float*>(view.data);
        std::vector<float>& copy =
            changed.emplace_back(values, values + view.elements());
        change(tensor, view.shape, copy);
        tensors.push_back({tensor, {copy.data(), DType::kF32, view.shape}});
      }
      ASSERT_THAT(WriteSafetensors(path, tensors), IsOk());
    }
    ASSERT_THAT(engine_->LoadModel(name, dir.path()), IsOk());
  }

  // Serves the preset, with the tensors whose names hold `which` multiplied.
  void Add(const std::string& name, float factor, const std::string& which) {
    Serve(name, *PresetConfig(GetParam()),
          [&](const std::string& tensor, const Shape&,
              std::vector<float>& values) {
            if (tensor.find(which) == std::string::npos) return;
            for (float& value : values) value *= factor;
          });
  }

  // Feeds a new session `text`, then asks it for scores and tokens. Whether
  // all went well; else it failed with NOT_FINITE.
  bool Survives(const std::string& model, const std::string& text) {
    EXPECT_THAT(engine_->CreateSession({.id = "s", .model = model}), IsOk());
    absl::Status status = AppendAll(*engine_, "s", text, {1000});
    if (status.ok()) {
      const absl::StatusOr<Scored> scored =
          ScoreAll(*engine_, {.session = "s"}, std::string(200, 'b'));
      status = scored.status();
      if (status.ok()) status = scored->finished.status;
      if (status.ok()) {
        for (const ScoreEvent::Token& token : scored->tokens) {
          EXPECT_TRUE(std::isfinite(token.logprob));
        }
      }
    }
    if (status.ok()) {
      status = GenerateAll(*engine_, {.session = "s",
                                      .max_tokens = 70,
                                      .sampling = {.temperature = 0.0f},
                                      .ignore_eos = true})
                   .status();
    }
    EXPECT_TRUE(status.ok() || IsNotFinite(status)) << status;
    if (!status.ok()) {
      // It says what it still is, says the same again when asked again, and
      // can be emptied.
      const absl::StatusOr<SessionInfo> before = Describe(*engine_, "s");
      EXPECT_THAT(before, IsOk());
      const absl::Status again =
          GenerateAll(*engine_, {.session = "s", .max_tokens = 1}).status();
      EXPECT_TRUE(again.ok() || IsNotFinite(again)) << again;
      if (!again.ok() && before.ok()) {
        const absl::StatusOr<SessionInfo> after = Describe(*engine_, "s");
        EXPECT_THAT(after, IsOk());
        EXPECT_EQ(after->position, before->position);
      }
    }
    EXPECT_THAT(engine_->DeleteSession("s", ""), IsOk());
    return status.ok();
  }

  std::unique_ptr<Engine> engine_;
};

TEST_P(ExtremesTest, NoInputDrivesAnOrdinaryModelOutOfRange) {
  EXPECT_TRUE(Survives("sane", Same()));
  EXPECT_TRUE(Survives("sane", Alternating()));
  EXPECT_TRUE(Survives("sane", Random()));
}

TEST_P(ExtremesTest, TinyWeightsAreWeights) {
  Add("zero", 0.0f, "");
  EXPECT_TRUE(Survives("zero", Random()));
  Add("denormal", 1e-42f, "");
  EXPECT_TRUE(Survives("denormal", Random()));
}

TEST_P(ExtremesTest, HugeWeightsAreServedOrRefusedByName) {
  int failed = 0;
  for (const float factor : {1e4f, 1e19f, 1e35f}) {
    for (const char* which : {"", "embed_tokens", "W1", "ttt_norm", "v_proj"}) {
      SCOPED_TRACE(testing::Message() << which << " times " << factor);
      const std::string name =
          "m" + std::to_string(static_cast<int>(std::log10(factor))) + which;
      Add(name, factor, which);
      if (!Survives(name, Random())) ++failed;
    }
  }
  EXPECT_GT(failed, 0);  // or nothing was tried
  EXPECT_TRUE(Survives("sane", Random()));
}

// A model that overflows on the byte z alone: only its embedding reaches
// channel 0, and the projection of channel 0 is as large as numbers get. The
// head never says z.
TEST_P(ExtremesTest, ASessionOutOfRangeLeavesItsBatchMatesAlone) {
  ModelConfig config = *PresetConfig(GetParam());
  config.layers = 1;
  config.pre_conv = false;
  config.tie_word_embeddings = false;
  Serve("trap", config,
        [](const std::string& tensor, const Shape& shape,
           std::vector<float>& values) {
          const int64_t cols = shape.back();
          const auto is = [&tensor](const char* one, const char* other) {
            return tensor.find(one) != std::string::npos ||
                   tensor.find(other) != std::string::npos;
          };
          // Transformer-XL's values are the last third of a joint map.
          const int64_t first_value =
              tensor.find("qkv_net") != std::string::npos
                  ? int64_t(values.size()) / cols / 3 * 2
                  : 0;
          for (int64_t row = 0; row < int64_t(values.size()) / cols; ++row) {
            float* const first = &values[row * cols];
            if (is("model.embed_tokens.weight", "emb_layers.0")) {
              *first = row == 'z' ? 100.0f : 0.0f;
            } else if (is("emb_projs.0", "emb_projs.0")) {
              if (row == 0) std::fill_n(first, cols, 0.0f);
              *first = row == 0 ? 1.0f : 0.0f;
            } else if (tensor.find("lr_bias") != std::string::npos) {
              *first = 10.0f;  // every token teaches
            } else if (is("v_proj", "qkv_net") && row >= first_value) {
              *first = 3e38f;
            } else if (is("lm_head.weight", "out_layers.0") && row == 'z') {
              std::fill_n(first, cols, 0.0f);
            }
          }
        });
  const auto tell = [&](const std::string& id) {
    EXPECT_THAT(engine_->CreateSession({.id = id, .model = "trap"}), IsOk());
    EXPECT_THAT(AppendAll(*engine_, id, std::string(100, 'a')), IsOk());
    EXPECT_THAT(GenerateAll(*engine_, {.session = id,
                                       .max_tokens = 300,
                                       .sampling = {.temperature = 0.0f},
                                       .ignore_eos = true}),
                IsOk());
    const absl::StatusOr<SessionInfo> info = Describe(*engine_, id);
    EXPECT_THAT(info, IsOk());
    return info->state_digest;
  };
  const std::string wanted = tell("alone");
  std::atomic<bool> stop = false;
  std::atomic<int> refused = 0;
  std::thread mate([&] {
    while (!stop || refused == 0) {
      EXPECT_THAT(engine_->CreateSession({.id = "z", .model = "trap"}), IsOk());
      GenerateOptions options{.session = "z", .max_tokens = 3};
      options.prompt = "say z";
      const absl::Status status = GenerateAll(*engine_, options).status();
      EXPECT_TRUE(IsNotFinite(status)) << status;
      ++refused;
      EXPECT_THAT(engine_->DeleteSession("z", ""), IsOk());
    }
  });
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(tell("beside" + std::to_string(i)), wanted);
  }
  stop = true;
  mate.join();
}

INSTANTIATE_TEST_SUITE_P(Mixers, ExtremesTest,
                         testing::ValuesIn(TinyPresetNames()),
                         [](const auto& test) {
                           return absl::StrReplaceAll(test.param, {{"-", "_"}});
                         });

}  // namespace
}  // namespace mneme
