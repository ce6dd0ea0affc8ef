// SPDX-License-Identifier: Apache-2.0
//
// What each family's config.json may say, beside what model_config_test tells
// of all.
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/model/model_config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using testing::AllOf;
using testing::ElementsAre;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

absl::StatusOr<ModelConfig> Parse(const std::string& type,
                                  const std::string& members = "",
                                  const ModelSettings& settings = {}) {
  return ParseModelConfig(
      absl::StrCat("{\"model_type\": \"", type, "\"",
                   members.empty() ? "" : ", ", members, "}"),
      "none", settings);
}

// Whether config.json comes back from what was read of it.
testing::AssertionResult ReadsBack(const ModelConfig& config) {
  const absl::StatusOr<ModelConfig> again = ParseModelConfig(config.canonical);
  if (!again.ok()) return testing::AssertionFailure() << again.status();
  if (again->canonical != config.canonical) {
    return testing::AssertionFailure()
           << again->canonical << " is not " << config.canonical;
  }
  return testing::AssertionSuccess();
}

// -- How much of its past a decoder sees

TEST(AttentionSpanTest, ALimitIsAnotherChoiceThanAWindow) {
  const auto limited = Parse("llama", "\"attention_limit\": 512");
  ASSERT_THAT(limited, IsOk());
  EXPECT_EQ(limited->token_limit(), 512);
  EXPECT_TRUE(ReadsBack(*limited));
  EXPECT_EQ(Parse("llama", "\"attention_window\": 5")->token_limit(), 0);
  EXPECT_THAT(Parse("llama"),
              AllOf(Fails(kInvalid, "want \"attention_window\""),
                    Fails(kInvalid, "or \"attention_limit\"")));
  EXPECT_THAT(Parse("qwen3", "\"attention_limit\": 5, \"attention_window\": 5"),
              Fails(kInvalid, "\"attention_limit\" stands beside a window"));
  EXPECT_THAT(
      Parse("mistral", "\"sliding_window\": 64, \"attention_limit\": 50"),
      Fails(kInvalid, "\"attention_limit\" stands beside a window"));
}

TEST(AttentionSpanTest, SettingsHoldInsteadOfTheFile) {
  const auto set =
      Parse("llama", "\"attention_window\": 5", {{"attention_window", "7"}});
  ASSERT_THAT(set, IsOk());
  EXPECT_EQ(set->attention.window, 7);
  EXPECT_THAT(Parse("llama", "", {{"attention_window", "many"}}),
              Fails(kInvalid, "setting \"attention_window\" is many"));
  // Families that have no such key are left alone.
  EXPECT_THAT(Parse("ttt", "", {{"attention_window", "7"}}), IsOk());
  EXPECT_THAT(Parse("llama", "", {{"attention_window", "0"}}),
              Fails(kInvalid, "\"attention_window\" is 0, want"));
}

// -- YaRN

constexpr char kYarn[] =
    R"("attention_window": 9, "rope_parameters": {"rope_type": "yarn",
       "factor": 4.0, "rope_theta": 10000.0)";

TEST(YarnTest, WhatIsAbsentFollowsFromTheFactor) {
  const auto yarn =
      Parse("llama",
            absl::StrCat(kYarn, ", \"original_max_position_embeddings\": 64}"));
  ASSERT_THAT(yarn, IsOk());
  const RopeConfig& rope = yarn->attention.rope;
  EXPECT_NEAR(rope.attention_factor, 0.1 * std::log(4.0) + 1, 1e-6);
  EXPECT_EQ(rope.beta_fast, 32.0f);
  EXPECT_TRUE(rope.truncate);
  EXPECT_TRUE(ReadsBack(*yarn));
}

TEST(YarnTest, FactorsOfAttentionAreHonoured) {
  const auto given = Parse(
      "llama", absl::StrCat(kYarn,
                            ", \"original_max_position_embeddings\": 64, "
                            "\"attention_factor\": 1.5, \"beta_fast\": 16, "
                            "\"truncate\": false}"));
  ASSERT_THAT(given, IsOk());
  EXPECT_EQ(given->attention.rope.attention_factor, 1.5f);
  EXPECT_EQ(given->attention.rope.beta_fast, 16.0f);
  EXPECT_FALSE(given->attention.rope.truncate);
  const auto scaled =
      Parse("llama", absl::StrCat(kYarn,
                                  ", \"original_max_position_embeddings\": 64, "
                                  "\"mscale\": 1.0, \"mscale_all_dim\": 0.5}"));
  ASSERT_THAT(scaled, IsOk());
  EXPECT_NEAR(scaled->attention.rope.attention_factor,
              (0.1 * std::log(4.0) + 1) / (0.05 * std::log(4.0) + 1), 1e-6);
}

TEST(YarnTest, TheFirstLengthIsNeeded) {
  EXPECT_THAT(
      Parse("llama", absl::StrCat(kYarn, "}")),
      Fails(kInvalid, "\"original_max_position_embeddings\" is missing"));
  EXPECT_THAT(Parse("llama", absl::StrCat(kYarn, ", \"mystery\": 1}")),
              Fails(kInvalid, "\"rope_parameters.mystery\" is 1"));
}

// -- Llama served as Infini-attention

TEST(InfiniGateTest, PlainLlamaGetsAMemory) {
  const auto off = Parse("llama", "\"num_key_value_heads\": 8",
                         {{"infini_gate", "\"-inf\""}});
  ASSERT_THAT(off, IsOk());
  EXPECT_EQ(off->mixer(0), MixerType::kInfini);
  EXPECT_EQ(off->infini.kv_heads, 8);
  EXPECT_EQ(off->infini.segment, 2048);
  ASSERT_TRUE(off->infini.gate.has_value());
  EXPECT_EQ(*off->infini.gate, -INFINITY);
  EXPECT_TRUE(ReadsBack(*off));
  const auto given =
      Parse("llama", "\"infini_gate\": 0.5, \"infini_segment_length\": 128");
  ASSERT_THAT(given, IsOk());
  EXPECT_EQ(*given->infini.gate, 0.5f);
  EXPECT_EQ(given->infini.segment, 128);
  EXPECT_TRUE(ReadsBack(*given));
}

TEST(InfiniGateTest, WhatAMemoryCanNotHaveIsRefusedByName) {
  const auto with = [](const char* members) {
    return Parse("llama", absl::StrCat("\"infini_gate\": 0, ", members));
  };
  EXPECT_THAT(with("\"attention_window\": 5"),
              Fails(kInvalid, "\"attention_window\" stands beside"));
  EXPECT_THAT(with("\"attention_limit\": 5"),
              Fails(kInvalid, "\"attention_limit\" stands beside"));
  EXPECT_THAT(with("\"attention_bias\": true"),
              Fails(kInvalid, "\"attention_bias\" stands beside"));
  EXPECT_THAT(with(R"("rope_scaling": {"rope_type": "linear", "factor": 2})"),
              Fails(kInvalid, "\"rope_type\" stands beside"));
  EXPECT_THAT(Parse("llama", "\"infini_gate\": \"wide\""),
              Fails(kInvalid, "\"infini_gate\" is \"wide\", want a number"));
}

// -- GPT-2

TEST(Gpt2Test, HasItsOwnKeysAndDefaults) {
  const auto config = Parse("gpt2");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->model_dim, 768);
  EXPECT_EQ(config->ffn_dim, 3072);
  EXPECT_EQ(config->positions, 1024);
  EXPECT_EQ(config->token_limit(), 1024);
  EXPECT_EQ(config->bos_token, 50256);
  EXPECT_EQ(config->activation, Activation::kGeluTanh);
  EXPECT_TRUE(ReadsBack(*config));
  const auto inner = Parse("gpt2",
                           "\"n_embd\": 48, \"n_head\": 4, \"n_inner\": 7, "
                           "\"activation_function\": \"relu\"");
  ASSERT_THAT(inner, IsOk());
  EXPECT_EQ(inner->ffn_dim, 7);
  EXPECT_EQ(inner->activation, Activation::kRelu);
}

TEST(Gpt2Test, SessionsEndWhereItsPositionsDo) {
  EXPECT_EQ(Parse("gpt2", "\"attention_limit\": 100")->token_limit(), 100);
  EXPECT_THAT(Parse("gpt2", "\"n_positions\": 64, \"attention_limit\": 65"),
              Fails(kInvalid, "\"attention_limit\" is 65"));
  EXPECT_THAT(Parse("gpt2", "\"attention_window\": 5"),
              Fails(kInvalid, "\"attention_window\" is 5"));
}

TEST(Gpt2Test, WhatIsNotComputedIsRefusedByName) {
  EXPECT_THAT(Parse("gpt2", "\"scale_attn_by_inverse_layer_idx\": true"),
              Fails(kInvalid, "\"scale_attn_by_inverse_layer_idx\" is true"));
  EXPECT_THAT(Parse("gpt2", "\"add_cross_attention\": true"),
              Fails(kInvalid, "\"add_cross_attention\" is true"));
  EXPECT_THAT(Parse("gpt2", "\"n_embd\": 10, \"n_head\": 4"),
              Fails(kInvalid, "\"n_embd\" is 10, want a multiple of"));
}

// -- BLOOM

TEST(BloomTest, HasItsOwnKeysAndDefaults) {
  const auto config =
      Parse("bloom", "\"n_embed\": 48, \"attention_window\": 64");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->model_dim, 48);
  EXPECT_EQ(config->ffn_dim, 192);
  EXPECT_TRUE(config->embedding_norm);
  EXPECT_EQ(config->attention.positions, AttentionPositions::kSlopes);
  EXPECT_TRUE(ReadsBack(*config));
  EXPECT_THAT(Parse("bloom"), Fails(kInvalid, "want \"attention_window\""));
  EXPECT_THAT(
      Parse("bloom", "\"n_layer\": 2, \"num_hidden_layers\": 5"),
      Fails(kInvalid, "\"num_hidden_layers\" is 5, want 2 as \"n_layer\""));
  EXPECT_THAT(
      Parse("bloom",
            "\"attention_window\": 64, "
            "\"apply_residual_connection_post_layernorm\": true"),
      Fails(kInvalid, "\"apply_residual_connection_post_layernorm\" is true"));
}

// -- Transformer-XL

TEST(TransfoXlTest, TheDefaultsAreThoseOfTheLargePublishedModel) {
  const auto config = Parse("transfo-xl");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->vocab_size, 267735);
  EXPECT_THAT(config->adaptive->cutoffs, ElementsAre(20000, 40000, 200000));
  EXPECT_THAT(config->adaptive->tie_projs,
              ElementsAre(false, true, true, true));
  EXPECT_EQ(config->adaptive->width(3), 16);
  EXPECT_EQ(config->relative.memory, 1600);
  EXPECT_EQ(config->relative.clamp, 1000);
  EXPECT_TRUE(config->relative.zero_memory);
  EXPECT_FALSE(config->bos_token.has_value());
  EXPECT_THAT(config->eos_tokens, ElementsAre(0));
  EXPECT_TRUE(ReadsBack(*config));
}

TEST(TransfoXlTest, SegmentsAreDeclaredWhereTheyChangeTheResult) {
  EXPECT_THAT(Parse("transfo-xl", "\"same_length\": false"),
              Fails(kInvalid, "want \"segment_length\""));
  const auto config = Parse("transfo-xl",
                            "\"same_length\": false, \"segment_length\": 150, "
                            "\"clamp_len\": -1, \"pre_lnorm\": true, "
                            "\"mem_init\": \"empty\", \"untie_r\": false");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->relative.segment, 150);
  EXPECT_EQ(config->relative.clamp, 0);
  EXPECT_TRUE(config->relative.shared_bias);
  EXPECT_EQ(config->norm_place, NormPlace::kBefore);
  EXPECT_TRUE(ReadsBack(*config));
}

TEST(TransfoXlTest, AVocabularyHasToHoldItsBands) {
  EXPECT_THAT(Parse("transfo-xl", "\"cutoffs\": [20, 10]"),
              Fails(kInvalid, "\"cutoffs\" has 10 after 20, want rising"));
  EXPECT_THAT(Parse("transfo-xl", "\"cutoffs\": [20], \"vocab_size\": 20"),
              Fails(kInvalid, "\"cutoffs\" has 20 after 0"));
  EXPECT_THAT(Parse("transfo-xl", "\"cutoffs\": [5, \"x\"]"),
              Fails(kInvalid, "\"cutoffs\" is [5,\"x\"], want a list"));
  EXPECT_THAT(Parse("transfo-xl", "\"tie_projs\": [true]"),
              Fails(kInvalid, "\"tie_projs\" has 1 items, want 4"));
  EXPECT_THAT(Parse("transfo-xl", "\"d_embed\": 32"),
              Fails(kInvalid, "\"d_embed\" is 32, want at least"));
}

TEST(TransfoXlTest, WhatIsNotComputedIsRefusedByName) {
  EXPECT_THAT(Parse("transfo-xl", "\"attn_type\": 2"),
              Fails(kInvalid, "\"attn_type\" is 2, want 0"));
  EXPECT_THAT(Parse("transfo-xl", "\"sample_softmax\": 100"),
              Fails(kInvalid, "\"sample_softmax\" is 100"));
  EXPECT_THAT(Parse("transfo-xl", "\"d_model\": 33"),
              Fails(kInvalid, "\"d_model\" is 33, want an even number"));
  EXPECT_THAT(
      Parse("transfo-xl", "\"mem_len\": 1000000, \"clamp_len\": 0"),
      Fails(kInvalid, "tell 1000000 distances apart, want at most 16384"));
  EXPECT_THAT(Parse("transfo-xl", "\"ext_len\": 5"),
              Fails(kInvalid, "\"ext_len\" is 5"));
}

}  // namespace
}  // namespace mneme
