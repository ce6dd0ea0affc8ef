// SPDX-License-Identifier: Apache-2.0
#include "engine/model/model_config.h"

#include <cstdlib>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// A config with `members` ("\"key\": value, ...") beside its model type.
std::string Config(const std::string& members) {
  return absl::StrCat("{\"model_type\": \"ttt\"", members.empty() ? "" : ", ",
                      members, "}");
}

absl::StatusOr<ModelConfig> Parse(const std::string& members) {
  return ParseModelConfig(Config(members));
}

std::string CanonicalOf(const std::string& members) {
  const absl::StatusOr<ModelConfig> config = Parse(members);
  EXPECT_THAT(config, IsOk()) << members;
  return config.ok() ? config->canonical : "";
}

TEST(ModelConfigTest, DefaultsAreThoseOfThePublishedModel) {
  const absl::StatusOr<ModelConfig> config = Parse("");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->model_type, "ttt");
  EXPECT_EQ(config->vocab_size, 32000);
  EXPECT_EQ(config->model_dim, 2048);
  EXPECT_EQ(config->ffn_dim, 5504);
  EXPECT_EQ(config->layers, 24);
  EXPECT_EQ(config->heads, 32);
  EXPECT_EQ(config->ttt_head_dim(), 64);
  EXPECT_EQ(config->norm_eps, 1e-6f);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_EQ(config->ttt.rope_theta, 10000.0f);
  EXPECT_EQ(config->ttt.layer_type, "linear");
  EXPECT_EQ(config->ttt.base_lr, 1.0f);
  EXPECT_EQ(config->ttt.mini_batch, 16);
  EXPECT_FALSE(config->ttt.share_qk);
  EXPECT_FALSE(config->ttt.use_gate);
  EXPECT_FALSE(config->pre_conv);
  EXPECT_EQ(config->conv_kernel, 4);
  EXPECT_EQ(config->bos_token, 1);
  EXPECT_THAT(config->eos_tokens, ElementsAre(2));
  EXPECT_EQ(config->tokenizer, "none");
  for (int64_t layer = 0; layer < 24; ++layer) {
    EXPECT_EQ(config->mixer(layer), MixerType::kTtt);
  }
  EXPECT_EQ(config->ttt_heads(), 32);
  EXPECT_TRUE(config->ttt.inner_norm);
  EXPECT_FALSE(config->ttt.qk_l2norm);
  EXPECT_TRUE(config->ttt.rope);
  EXPECT_EQ(config->ttt.lr_gate, "sigmoid");
  EXPECT_EQ(config->ttt.lr_scale, "base/d");
  EXPECT_TRUE(config->ttt.post_norm);
  EXPECT_EQ(config->ttt.gate_act, "gelu");
  EXPECT_FALSE(config->user_token.has_value());
  EXPECT_FALSE(config->assistant_token.has_value());
}

TEST(ModelConfigTest, EveryKeyIsRead) {
  const absl::StatusOr<ModelConfig> config = Parse(R"(
      "ttt_layer_type": "mlp", "hidden_act": "silu", "vocab_size": 300,
      "hidden_size": 48, "intermediate_size": 7, "num_hidden_layers": 3,
      "num_attention_heads": 4, "rms_norm_eps": 0.5,
      "tie_word_embeddings": false, "rope_theta": 100, "ttt_base_lr": 0.1,
      "mini_batch_size": 5, "share_qk": true, "use_gate": true,
      "pre_conv": true, "conv_kernel": 2, "tokenizer": "bytes",
      "bos_token_id": 256, "eos_token_id": [257, 299])");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->vocab_size, 300);
  EXPECT_EQ(config->model_dim, 48);
  EXPECT_EQ(config->ffn_dim, 7);
  EXPECT_EQ(config->layers, 3);
  EXPECT_EQ(config->heads, 4);
  EXPECT_EQ(config->ttt_head_dim(), 12);
  EXPECT_EQ(config->norm_eps, 0.5f);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_EQ(config->ttt.rope_theta, 100.0f);
  EXPECT_EQ(config->ttt.layer_type, "mlp");
  EXPECT_EQ(config->ttt.base_lr, 0.1f);
  EXPECT_EQ(config->ttt.mini_batch, 5);
  EXPECT_TRUE(config->ttt.share_qk);
  EXPECT_TRUE(config->ttt.use_gate);
  EXPECT_TRUE(config->pre_conv);
  EXPECT_EQ(config->conv_kernel, 2);
  EXPECT_EQ(config->tokenizer, "bytes");
  EXPECT_EQ(config->bos_token, 256);
  EXPECT_THAT(config->eos_tokens, ElementsAre(257, 299));
}

// A small hybrid with the delta rule, as its checkpoint has it.
constexpr char kHybrid[] = R"(
    "vocab_size": 264, "hidden_size": 128, "intermediate_size": 320,
    "num_hidden_layers": 5, "layer_types": ["sliding_attention",
    "sliding_attention", "ttt", "sliding_attention", "ttt"],
    "num_attention_heads": 4, "sliding_window": 64, "rope_theta": 500,
    "ttt_layer_type": "linear", "ttt_num_heads": 2, "ttt_head_dim": 126,
    "ttt_inner_norm": false, "ttt_rope": false, "ttt_qk_l2norm": true,
    "ttt_qk_l2norm_eps": 0.01, "ttt_post_norm": false, "ttt_lr_gate": "hard",
    "ttt_lr_gate_stretch": 2.0, "ttt_lr_scale": "one", "ttt_base_lr": 1.0,
    "mini_batch_size": 1, "share_qk": true, "use_gate": true,
    "ttt_gate_act": "sigmoid", "pre_conv": true, "conv_kernel": 4,
    "bos_token_id": 256, "user_token_id": 257, "assistant_token_id": 258,
    "eos_token_id": 259, "tokenizer": "bytes")";

TEST(HybridConfigTest, EveryKeyIsRead) {
  const absl::StatusOr<ModelConfig> config = Parse(kHybrid);
  ASSERT_THAT(config, IsOk());
  EXPECT_THAT(
      config->mixers,
      ElementsAre(MixerType::kAttention, MixerType::kAttention,
                  MixerType::kDelta, MixerType::kAttention, MixerType::kDelta));
  EXPECT_EQ(config->attention.kv_heads, 4);
  EXPECT_EQ(config->attention.head_dim, 32);
  EXPECT_EQ(config->attention.window, 64);
  EXPECT_EQ(config->attention.rope.theta, 500.0f);
  EXPECT_EQ(config->attention.pairs, RotationPairs::kNeighbours);
  EXPECT_EQ(config->ttt_heads(), 2);
  EXPECT_EQ(config->ttt_head_dim(), 126);
  EXPECT_FALSE(config->ttt.inner_norm);
  EXPECT_FALSE(config->ttt.rope);
  EXPECT_TRUE(config->ttt.qk_l2norm);
  EXPECT_EQ(config->ttt.qk_l2norm_eps, 0.01f);
  EXPECT_FALSE(config->ttt.post_norm);
  EXPECT_EQ(config->ttt.lr_gate, "hard");
  EXPECT_EQ(config->ttt.lr_gate_stretch, 2.0f);
  EXPECT_EQ(config->ttt.lr_scale, "one");
  EXPECT_EQ(config->ttt.gate_act, "sigmoid");
  EXPECT_EQ(config->user_token, 257);
  EXPECT_EQ(config->assistant_token, 258);
}

TEST(HybridConfigTest, WhatIsWrittenReadsBack) {
  const absl::StatusOr<ModelConfig> config = Parse(kHybrid);
  ASSERT_THAT(config, IsOk());
  const absl::StatusOr<ModelConfig> again = ParseModelConfig(config->canonical);
  ASSERT_THAT(again, IsOk());
  EXPECT_EQ(again->canonical, config->canonical);
  EXPECT_EQ(again->mixers, config->mixers);
}

TEST(HybridConfigTest, AnyKeyOfAMemoryLayerReachesTheFingerprint) {
  // Small sizes first; the same key may come again behind them no more.
  const std::string sizes =
      "\"hidden_size\": 48, \"num_attention_heads\": 4, "
      "\"num_hidden_layers\": 2";
  std::vector<std::string> canonical = {CanonicalOf(sizes)};
  for (const char* more :
       {"\"layer_types\": [\"ttt\", \"sliding_attention\"], "
        "\"sliding_window\": 8",
        "\"layer_types\": [\"ttt\", \"sliding_attention\"], "
        "\"sliding_window\": 9",
        "\"layer_types\": [\"sliding_attention\", \"ttt\"], "
        "\"sliding_window\": 9",
        "\"ttt_num_heads\": 2", "\"ttt_head_dim\": 8",
        "\"ttt_inner_norm\": false, \"mini_batch_size\": 1",
        "\"mini_batch_size\": 1", "\"ttt_qk_l2norm\": true",
        "\"ttt_qk_l2norm\": true, \"ttt_qk_l2norm_eps\": 0.1",
        "\"ttt_rope\": false",
        "\"ttt_lr_gate\": \"hard\", \"ttt_lr_gate_stretch\": 2",
        "\"ttt_lr_gate\": \"hard\", \"ttt_lr_gate_stretch\": 1.5",
        "\"ttt_lr_scale\": \"one\"", "\"ttt_post_norm\": false",
        "\"ttt_gate_act\": \"sigmoid\"", "\"user_token_id\": 3",
        "\"assistant_token_id\": 3"}) {
    const std::string text = CanonicalOf(absl::StrCat(sizes, ", ", more));
    EXPECT_THAT(canonical, testing::Not(testing::Contains(text))) << more;
    canonical.push_back(text);
  }
  // Said or left to the default, it is the same.
  EXPECT_EQ(CanonicalOf(absl::StrCat(
                sizes,
                ", \"layer_types\": [\"ttt\", \"ttt\"], "
                "\"ttt_num_heads\": 4, \"ttt_head_dim\": 12, "
                "\"ttt_inner_norm\": true, \"ttt_rope\": true, "
                "\"ttt_lr_gate\": \"sigmoid\", \"ttt_gate_act\": \"gelu\", "
                "\"ttt_lr_scale\": \"base/d\", \"ttt_post_norm\": true, "
                "\"ttt_qk_l2norm\": false, \"user_token_id\": null")),
            canonical[0]);
}

TEST(HybridConfigTest, WhatDoesNotGoTogetherIsRefusedWithTheWanted) {
  const std::string sizes = "\"hidden_size\": 48, \"num_hidden_layers\": 2, ";
  for (const auto& [keys, found, wanted] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {R"("num_attention_heads": 4, "layer_types": ["ttt"])",
            "\"layer_types\" has 1 items", "want 2, \"num_hidden_layers\""},
           {R"("num_attention_heads": 4, "layer_types": [])",
            "\"layer_types\" has 0 items", "want 2"},
           {R"("num_attention_heads": 4,
               "layer_types": ["ttt", "sliding_attention"])",
            "\"sliding_attention\"", "want \"sliding_window\""},
           {R"("num_attention_heads": 5, "ttt_num_heads": 4,
               "layer_types": ["ttt", "sliding_attention"],
               "sliding_window": 9)",
            "\"hidden_size\" is 48",
            "want a multiple of \"num_attention_heads\", 5"},
           {R"("num_attention_heads": 16, "ttt_num_heads": 4,
               "layer_types": ["ttt", "sliding_attention"],
               "sliding_window": 9)",
            "is 3", "want an even number"},
           {R"("num_attention_heads": 4, "ttt_num_heads": 5)",
            "\"hidden_size\" is 48", "want a multiple of \"ttt_num_heads\", 5"},
           {R"("num_attention_heads": 4, "ttt_head_dim": 7)",
            "\"ttt_head_dim\" is 7",
            "even number for the rotation, or "
            "\"ttt_rope\" false"},
           {R"("num_attention_heads": 4, "ttt_num_heads": 16)",
            "\"hidden_size\" / \"ttt_num_heads\" is 3", "\"ttt_rope\" false"},
           {R"("num_attention_heads": 4, "ttt_num_heads": 1048576,
               "ttt_head_dim": 8)",
            "\"ttt_num_heads\" is 1048576", "want at most 131072 heads of 8"},
           {R"("num_attention_heads": 4, "ttt_inner_norm": false,
               "mini_batch_size": 16)",
            "\"mini_batch_size\" is 16",
            "want 1 where \"ttt_inner_norm\" is false"},
           {R"("num_attention_heads": 4, "ttt_inner_norm": false)",
            "\"mini_batch_size\" is 16", "want 1"},
           {R"("num_attention_heads": 4, "ttt_inner_norm": false,
               "mini_batch_size": 1, "ttt_layer_type": "mlp")",
            "\"ttt_layer_type\" is \"mlp\"",
            "want \"linear\" where \"ttt_inner_norm\" is false"},
           {R"("num_attention_heads": 4, "ttt_lr_gate": "hard")",
            "\"ttt_lr_gate\" is \"hard\"", "want \"ttt_lr_gate_stretch\""}}) {
    EXPECT_THAT(Parse(sizes + keys),
                AllOf(Fails(kInvalid, found), Fails(kInvalid, wanted)));
  }
}

TEST(HybridConfigTest, WhatMeansNothingBesideTheOthersIsTaken) {
  for (const char* keys :
       {// Heads of attention that there is none of.
        R"("hidden_size": 50, "num_attention_heads": 4, "ttt_num_heads": 5)",
        R"("hidden_size": 50, "num_attention_heads": 4, "ttt_head_dim": 6)",
        // Odd heads without a rotation.
        R"("hidden_size": 48, "num_attention_heads": 16, "ttt_rope": false)",
        // Memory heads that there are none of.
        R"("hidden_size": 48, "num_attention_heads": 4, "ttt_num_heads": 7,
           "num_hidden_layers": 1, "layer_types": ["sliding_attention"],
           "sliding_window": 1)",
        R"("sliding_window": 5)", R"("ttt_lr_gate_stretch": 3)"}) {
    const absl::StatusOr<ModelConfig> config = Parse(keys);
    ASSERT_THAT(config, IsOk()) << keys;
    EXPECT_THAT(ParseModelConfig(config->canonical), IsOk()) << keys;
  }
}

// -- What is refused, and how it is named ------------------------------------

// Every value is refused with a message that names the key, the value as the
// file has it, and what was wanted.
void ExpectRefused(const std::string& key,
                   const std::vector<std::string>& values,
                   const std::string& wanted) {
  for (const std::string& value : values) {
    EXPECT_THAT(Parse(absl::StrCat("\"", key, "\": ", value)),
                AllOf(Fails(kInvalid, absl::StrCat("\"", key, "\" is ", value)),
                      Fails(kInvalid, absl::StrCat("want ", wanted))));
  }
}

TEST(ModelConfigTest, SizesAreIntegersInTheirRange) {
  struct Range {
    const char* key;
    int64_t min;
    int64_t max;
  };
  for (const Range& range : {Range{"vocab_size", 1, 1 << 24},
                             {"hidden_size", 2, 1 << 20},
                             {"intermediate_size", 1, 1 << 20},
                             {"num_hidden_layers", 1, 1024},
                             {"num_attention_heads", 1, 1 << 20},
                             {"ttt_num_heads", 1, 1 << 20},
                             {"ttt_head_dim", 1, 1 << 20},
                             {"sliding_window", 1, 1 << 20},
                             {"mini_batch_size", 1, 4096},
                             {"conv_kernel", 1, 64}}) {
    ExpectRefused(
        range.key,
        {absl::StrCat(range.min - 1), absl::StrCat(range.max + 1), "-1",
         "9223372036854775807", "18446744073709551615", "16.5", "16.0",
         "\"16\"", "true", "null", "[16]", "{\"a\":16}"},
        absl::StrCat("an integer from ", range.min, " to ", range.max));
  }
}

TEST(ModelConfigTest, SizesReachToTheEndsOfTheirRange) {
  EXPECT_THAT(Parse("\"mini_batch_size\": 1, \"conv_kernel\": 1, "
                    "\"num_hidden_layers\": 1, \"intermediate_size\": 1, "
                    "\"hidden_size\": 2, \"num_attention_heads\": 1, "
                    "\"vocab_size\": 1, \"bos_token_id\": null, "
                    "\"eos_token_id\": 0"),
              IsOk());
  EXPECT_THAT(Parse("\"mini_batch_size\": 4096, \"conv_kernel\": 64, "
                    "\"num_hidden_layers\": 1024, "
                    "\"intermediate_size\": 1048576, "
                    "\"hidden_size\": 1048576, "
                    "\"num_attention_heads\": 524288, "
                    "\"vocab_size\": 16777216, \"eos_token_id\": 16777215"),
              IsOk());
}

TEST(ModelConfigTest, FloatsArePositiveNumbers) {
  for (const char* key : {"rms_norm_eps", "rope_theta", "ttt_base_lr",
                          "ttt_qk_l2norm_eps", "ttt_lr_gate_stretch"}) {
    ExpectRefused(key,
                  {"0", "0.0", "-1.0", "-1", "1000000000", "1e+30", "\"1\"",
                   "true", "null", "[1.0]"},
                  "a number above 0 and below 1e9");
  }
}

TEST(ModelConfigTest, ANumberThatIsZeroInSinglePrecisionIsRefused) {
  for (const char* key : {"rms_norm_eps", "rope_theta", "ttt_base_lr",
                          "ttt_qk_l2norm_eps", "ttt_lr_gate_stretch"}) {
    const absl::StatusOr<ModelConfig> config =
        Parse(absl::StrCat("\"", key, "\": 1e-60"));
    EXPECT_THAT(config, Fails(kInvalid, absl::StrCat("\"", key, "\"")));
  }
}

TEST(ModelConfigTest, WhatTheFileSaysItIsForHasToFit) {
  EXPECT_THAT(Parse(R"("architectures": ["TTTForCausalLM"])"), IsOk());
  EXPECT_THAT(Parse(R"("architectures": ["LlamaForCausalLM"])"),
              Fails(absl::StatusCode::kInvalidArgument, "LlamaForCausalLM"));
}

TEST(ModelConfigTest, SwitchesAreTrueOrFalse) {
  for (const char* key :
       {"tie_word_embeddings", "share_qk", "use_gate", "pre_conv",
        "ttt_inner_norm", "ttt_qk_l2norm", "ttt_rope", "ttt_post_norm"}) {
    ExpectRefused(key, {"0", "1", "\"true\"", "null", "[]"}, "true or false");
  }
}

TEST(ModelConfigTest, WordsAreOneOfTheirChoices) {
  ExpectRefused("hidden_act", {"\"gelu\"", "null", "1", "[\"silu\"]"},
                "\"silu\"");
  ExpectRefused("ttt_layer_type", {"\"Linear\"", "null", "7"},
                "\"linear\" or \"mlp\"");
  ExpectRefused("ttt_lr_gate", {"\"soft\"", "null", "2"},
                "\"sigmoid\" or \"hard\"");
  ExpectRefused("ttt_lr_scale", {"\"1\"", "null", "1"},
                "\"base/d\" or \"one\"");
  ExpectRefused("ttt_gate_act", {"\"silu\"", "null", "true"},
                "\"gelu\" or \"sigmoid\"");
  ExpectRefused("layer_types",
                {"\"ttt\"", "null", "[\"full_attention\"]", "[\"ttt\",1]",
                 "[[\"ttt\"]]", "{}"},
                "a list of \"ttt\" or \"sliding_attention\"");
  ExpectRefused("architectures",
                {"\"TTTForCausalLM\"", "[]", "[\"LlamaForCausalLM\"]",
                 "[\"TTTForCausalLM\",\"TTTForCausalLM\"]", "null"},
                "[\"TTTForCausalLM\"]");
  ExpectRefused("tokenizer", {"\"byte\"", "null", "{}"},
                "\"none\" or \"bytes\"");
}

TEST(ModelConfigTest, TokenIdsAreAnIdAListOrNull) {
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    ExpectRefused(
        key,
        {"-1", "1.5", "\"1\"", "true", "{\"a\":1}", "[[1]]", "[null]", "[1,-1]",
         "16777216", "9223372036854775808", "18446744073709551615"},
        "a token id, a list of them, or null");
  }
}

TEST(ModelConfigTest, ARoleHasOneTokenIdOrNone) {
  for (const char* key : {"user_token_id", "assistant_token_id"}) {
    ExpectRefused(key,
                  {"-1", "1.5", "\"1\"", "true", "[1]", "16777216",
                   "18446744073709551615"},
                  "a token id, or null");
    EXPECT_THAT(Parse(absl::StrCat("\"", key, "\": null")), IsOk());
  }
}

TEST(ModelConfigTest, TheModelTypeIsNeededAndKnown) {
  EXPECT_THAT(ParseModelConfig("{}"),
              Fails(kInvalid, "\"model_type\" is missing, want \"ttt\" or "));
  for (const char* type : {"\"bert\"", "null", "5", "[\"ttt\"]"}) {
    EXPECT_THAT(ParseModelConfig(absl::StrCat("{\"model_type\":", type, "}")),
                Fails(kInvalid, absl::StrCat("\"model_type\" is ", type,
                                             ", want \"ttt\"")));
  }
}

TEST(ModelConfigTest, AnUnknownKeyIsRefusedByName) {
  EXPECT_THAT(Parse("\"rope_scaling\": {\"factor\":2}"),
              AllOf(Fails(kInvalid, "\"rope_scaling\""),
                    Fails(kInvalid, "{\"factor\":2}")));
  EXPECT_THAT(Parse("\"Vocab_size\": 5"), Fails(kInvalid, "\"Vocab_size\""));
  EXPECT_THAT(Parse("\"\": 5"), Fails(kInvalid, "\"\" is 5"));
}

TEST(ModelConfigTest, AWrongKeyIsNamedBeforeAnUnknownOne) {
  EXPECT_THAT(Parse("\"another\": 1, \"hidden_size\": -4"),
              Fails(kInvalid, "\"hidden_size\" is -4"));
}

TEST(ModelConfigTest, ALongValueIsCutInTheMessage) {
  const std::string value(10'000, 'x');
  for (const char* key : {"hidden_size", "unknown_key", "model_type"}) {
    const absl::StatusOr<ModelConfig> config = ParseModelConfig(absl::StrCat(
        "{\"model_type\":\"ttt\", \"", key, "\":\"", value, "\"}"));
    ASSERT_THAT(config, Fails(kInvalid, key));
    EXPECT_LT(config.status().message().size(), 300u);
  }
}

TEST(ModelConfigTest, WhatIsNoObjectIsRefused) {
  for (const char* text :
       {"", " ", "null", "5", "\"ttt\"", "[]", "[{\"model_type\":\"ttt\"}]",
        "{", "{\"model_type\":\"ttt\"", "{\"model_type\":\"ttt\",}",
        "{\"model_type\":\"ttt\"}}", "{model_type:\"ttt\"}",
        "{\"model_type\":\"ttt\",\"rope_theta\":1e999}",
        "{\"model_type\":\"ttt\",\"rope_theta\":NaN}",
        "{\"model_type\":\"t\xff\"}"}) {
    EXPECT_THAT(ParseModelConfig(text), Fails(kInvalid, "not a JSON object"))
        << text;
  }
}

TEST(ModelConfigTest, AKeyThatComesTwiceIsRefusedByName) {
  EXPECT_THAT(Parse("\"hidden_size\": 64, \"hidden_size\": 64"),
              Fails(kInvalid, "\"hidden_size\""));
}

// A file may nest brackets as deep as it is long.
TEST(ModelConfigDeathTest, DeepNestingIsRefusedAndNotFollowed) {
  const std::string deep =
      std::string(250'000, '[') + std::string(250'000, ']');
  for (const char* key : {"hidden_size", "eos_token_id", "unknown_key",
                          "id2label", "hidden_act", "model_type"}) {
    const std::string text = Config(absl::StrCat("\"", key, "\":", deep));
    EXPECT_EXIT(std::exit(ParseModelConfig(text).ok() ? 1 : 0),
                testing::ExitedWithCode(0), "")
        << key;
  }
}

// -- Contradictions ----------------------------------------------------------

TEST(ModelConfigTest, HeadsDivideTheModelIntoEvenParts) {
  EXPECT_THAT(Parse("\"hidden_size\": 50, \"num_attention_heads\": 4"),
              AllOf(Fails(kInvalid, "\"hidden_size\" is 50"),
                    Fails(kInvalid, "\"num_attention_heads\", 4")));
  EXPECT_THAT(Parse("\"hidden_size\": 2, \"num_attention_heads\": 4"),
              Fails(kInvalid, "multiple of"));
  EXPECT_THAT(Parse("\"hidden_size\": 12, \"num_attention_heads\": 4"),
              AllOf(Fails(kInvalid, "is 3"), Fails(kInvalid, "even")));
}

TEST(ModelConfigTest, AByteVocabularyHoldsEveryByte) {
  EXPECT_THAT(
      Parse("\"tokenizer\": \"bytes\", \"vocab_size\": 255"),
      AllOf(Fails(kInvalid, "\"vocab_size\" is 255"), Fails(kInvalid, "256")));
  EXPECT_THAT(Parse("\"tokenizer\": \"bytes\", \"vocab_size\": 256"), IsOk());
}

TEST(ModelConfigTest, ControlTokensLieInTheVocabulary) {
  EXPECT_THAT(Parse("\"vocab_size\": 300, \"bos_token_id\": 300"),
              AllOf(Fails(kInvalid, "300"), Fails(kInvalid, "bos_token_id")));
  EXPECT_THAT(Parse("\"vocab_size\": 300, \"eos_token_id\": [5, 301]"),
              AllOf(Fails(kInvalid, "301"), Fails(kInvalid, "eos_token_id")));
  EXPECT_THAT(Parse("\"vocab_size\": 300, \"user_token_id\": 300"),
              AllOf(Fails(kInvalid, "300"), Fails(kInvalid, "user_token_id")));
  EXPECT_THAT(
      Parse("\"vocab_size\": 300, \"assistant_token_id\": 301"),
      AllOf(Fails(kInvalid, "301"), Fails(kInvalid, "assistant_token_id")));
}

TEST(ModelConfigTest, ControlTokensOfAByteVocabularyAreNoBytes) {
  for (const char* key : {"bos_token_id", "eos_token_id", "user_token_id",
                          "assistant_token_id"}) {
    EXPECT_THAT(
        Parse(absl::StrCat("\"tokenizer\": \"bytes\", \"", key, "\": 255")),
        AllOf(Fails(kInvalid, "255"), Fails(kInvalid, "byte")));
    EXPECT_THAT(
        Parse(absl::StrCat("\"tokenizer\": \"bytes\", \"", key, "\": 256")),
        IsOk());
  }
}

TEST(ModelConfigTest, ThereIsOneBeginTokenAtMost) {
  EXPECT_THAT(Parse("\"bos_token_id\": [1, 2]"),
              Fails(kInvalid, "\"bos_token_id\" is a list"));
  EXPECT_EQ(Parse("\"bos_token_id\": [7]")->bos_token, 7);
  EXPECT_FALSE(Parse("\"bos_token_id\": []")->bos_token.has_value());
  EXPECT_FALSE(Parse("\"bos_token_id\": null")->bos_token.has_value());
}

TEST(ModelConfigTest, AByteVocabularyHasNoControlTokensUnlessNamed) {
  const absl::StatusOr<ModelConfig> config = Parse("\"tokenizer\": \"bytes\"");
  ASSERT_THAT(config, IsOk());
  EXPECT_FALSE(config->bos_token.has_value());
  EXPECT_THAT(config->eos_tokens, IsEmpty());
}

// -- Infini-attention
// ----------------------------------------------------------

absl::StatusOr<ModelConfig> ParseInfini(const std::string& members) {
  return ParseModelConfig(absl::StrCat("{\"model_type\": \"infini-llama\"",
                                       members.empty() ? "" : ", ", members,
                                       "}"));
}

TEST(InfiniConfigTest, DefaultsAreThoseOfLlamaAndThePaper) {
  const absl::StatusOr<ModelConfig> config = ParseInfini("");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->model_dim, 4096);
  EXPECT_EQ(config->heads, 32);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_EQ(config->mixer(0), MixerType::kInfini);
  EXPECT_EQ(config->infini.kv_heads, 32);
  EXPECT_EQ(config->infini.head_dim, 128);
  EXPECT_EQ(config->infini.segment, 2048);
  EXPECT_EQ(config->infini.update_rule, "linear");
  EXPECT_EQ(config->infini.epsilon, 1e-10f);
}

TEST(InfiniConfigTest, EveryKeyIsRead) {
  const absl::StatusOr<ModelConfig> config = ParseInfini(R"(
      "architectures": ["InfiniLlamaForCausalLM"], "hidden_size": 50,
      "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 8,
      "rope_theta": 500000.0, "rope_scaling": null, "attention_bias": false,
      "infini_segment_length": 7, "infini_update_rule": "linear_delta",
      "infini_memory_rope": false, "infini_memory_eps": 1e-6,
      "max_position_embeddings": 4096, "attention_dropout": 0.0)");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->infini.kv_heads, 3);
  EXPECT_EQ(config->infini.head_dim, 8);
  EXPECT_EQ(config->infini.rope_theta, 500000.0f);
  EXPECT_EQ(config->infini.segment, 7);
  EXPECT_EQ(config->infini.update_rule, "linear_delta");
  EXPECT_EQ(config->infini.epsilon, 1e-6f);
}

TEST(InfiniConfigTest, WhatIsNotComputedIsRefusedByName) {
  for (const auto& [key, value, wanted] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {"infini_memory_rope", "true", "false"},
           {"attention_bias", "true", "false"},
           {"mlp_bias", "true", "false"},
           {"rope_scaling", "{\"factor\":2}", "null"},
           {"hidden_act", "\"gelu\"", "\"silu\""},
           {"infini_update_rule", "\"delta\"", "\"linear\" or"},
           {"infini_segment_length", "0", "an integer from 1"}}) {
    EXPECT_THAT(ParseInfini(absl::StrCat("\"", key, "\": ", value)),
                AllOf(Fails(kInvalid, absl::StrCat("\"", key, "\" is ", value)),
                      Fails(kInvalid, absl::StrCat("want ", wanted))));
  }
  EXPECT_THAT(ParseInfini("\"mini_batch_size\": 16"),
              Fails(kInvalid, "\"mini_batch_size\""));
}

TEST(InfiniConfigTest, HeadsShareMemoriesEvenlyAndRotateInPairs) {
  EXPECT_THAT(
      ParseInfini("\"num_attention_heads\": 6, \"num_key_value_heads\": 4"),
      Fails(kInvalid, "multiple of \"num_key_value_heads\", 4"));
  EXPECT_THAT(ParseInfini("\"head_dim\": 7"),
              AllOf(Fails(kInvalid, "\"head_dim\""), Fails(kInvalid, "is 7")));
  EXPECT_THAT(ParseInfini("\"head_dim\": 1000000"),
              Fails(kInvalid, "is 1000000"));
  EXPECT_THAT(
      ParseInfini("\"num_attention_heads\": 1048576, \"head_dim\": 4096"),
      Fails(kInvalid, "\"num_attention_heads\" is 1048576, want at most 256"));
  EXPECT_THAT(ParseInfini("\"infini_memory_eps\": 1e-35"),
              Fails(kInvalid, "\"infini_memory_eps\" is 1e-35"));
}

// -- Decoders with attention
// ---------------------------------------------------

absl::StatusOr<ModelConfig> ParseFamily(const std::string& type,
                                        const std::string& members) {
  return ParseModelConfig(absl::StrCat(
      "{\"model_type\": \"", type, "\", ", "\"attention_window\": 100",
      members.empty() ? "" : ", ", members, "}"));
}

TEST(AttentionConfigTest, FamiliesDifferInWhatTheirLayersHave) {
  const auto llama = ParseFamily("llama", "\"attention_bias\": true");
  ASSERT_THAT(llama, IsOk());
  EXPECT_EQ(llama->mixer(0), MixerType::kAttention);
  EXPECT_TRUE(llama->attention.qkv_bias);
  EXPECT_TRUE(llama->attention.o_bias);
  EXPECT_FALSE(llama->attention.qk_norm);
  const auto qwen2 = ParseFamily("qwen2", "");
  ASSERT_THAT(qwen2, IsOk());
  EXPECT_TRUE(qwen2->attention.qkv_bias);
  EXPECT_FALSE(qwen2->attention.o_bias);
  const auto qwen3 = ParseFamily("qwen3", "");
  ASSERT_THAT(qwen3, IsOk());
  EXPECT_TRUE(qwen3->attention.qk_norm);
  EXPECT_FALSE(qwen3->attention.qkv_bias);
}

TEST(AttentionConfigTest, AWindowIsNeededUnlessTheModelHasOne) {
  EXPECT_THAT(ParseModelConfig(R"({"model_type": "llama"})"),
              Fails(kInvalid, "want \"attention_window\""));
  EXPECT_THAT(
      ParseModelConfig(R"({"model_type": "mistral", "sliding_window": null})"),
      Fails(kInvalid, "want \"attention_window\""));
  const auto own =
      ParseModelConfig(R"({"model_type": "mistral", "sliding_window": 64})");
  ASSERT_THAT(own, IsOk());
  EXPECT_EQ(own->attention.window, 64);
  EXPECT_EQ(ParseFamily("mistral", "\"sliding_window\": 64")->attention.window,
            100);
  EXPECT_EQ(ParseFamily("llama", "\"attention_sinks\": 4")->attention.sinks, 4);
}

TEST(AttentionConfigTest, RotationsAreSpelledInSeveralWays) {
  const auto flat = ParseFamily("llama", "\"rope_theta\": 500000.0");
  ASSERT_THAT(flat, IsOk());
  EXPECT_EQ(flat->attention.rope.theta, 500000.0f);
  EXPECT_EQ(flat->attention.rope.type, "default");
  const auto old = ParseFamily(
      "llama", R"("rope_scaling": {"type": "linear", "factor": 4.0})");
  ASSERT_THAT(old, IsOk());
  EXPECT_EQ(old->attention.rope.type, "linear");
  EXPECT_EQ(old->attention.rope.factor, 4.0f);
  const auto modern = ParseFamily(
      "llama", R"("rope_parameters": {"rope_type": "llama3", "factor": 8.0,
          "rope_theta": 1000.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64})");
  ASSERT_THAT(modern, IsOk());
  EXPECT_EQ(modern->attention.rope.type, "llama3");
  EXPECT_EQ(modern->attention.rope.theta, 1000.0f);
  EXPECT_EQ(modern->attention.rope.original_positions, 64);
}

TEST(AttentionConfigTest, WhatIsNotComputedIsRefusedByName) {
  EXPECT_THAT(
      ParseFamily("llama", R"("rope_scaling": {"rope_type": "longrope"})"),
      Fails(kInvalid, "\"rope_scaling.rope_type\" is \"longrope\", want"));
  EXPECT_THAT(
      ParseFamily("llama", R"("rope_scaling": {"type": "linear", "beta": 1})"),
      Fails(kInvalid, "\"rope_scaling.beta\" is 1"));
  EXPECT_THAT(ParseFamily("llama", "\"rope_scaling\": 5"),
              Fails(kInvalid, "\"rope_scaling\" is 5, want an object"));
  EXPECT_THAT(ParseFamily("qwen2", "\"use_sliding_window\": true"),
              Fails(kInvalid, "\"use_sliding_window\" is true, want false"));
  EXPECT_THAT(ParseFamily("qwen3", R"("layer_types": ["sliding_attention"])"),
              Fails(kInvalid, "a list of nothing but \"full_attention\""));
  EXPECT_THAT(ParseFamily("llama", "\"hidden_act\": \"mish\""),
              Fails(kInvalid, "\"hidden_act\" is \"mish\", want \"silu\" or"));
  EXPECT_THAT(
      ParseModelConfig(R"({"model_type": "llama", "attention_window": 0})"),
      Fails(kInvalid, "\"attention_window\" is 0"));
}

// -- The canonical form ------------------------------------------------------

TEST(ModelConfigTest, TheOrderOfKeysDoesNotMatter) {
  const absl::StatusOr<ModelConfig> one =
      ParseModelConfig(R"({"model_type":"ttt","hidden_size":64,"use_gate":true,
                           "num_attention_heads":4})");
  const absl::StatusOr<ModelConfig> other = ParseModelConfig(
      R"({"num_attention_heads" : 4 ,"use_gate":true, "hidden_size":64,
          "model_type":"ttt"})");
  ASSERT_THAT(one, IsOk());
  ASSERT_THAT(other, IsOk());
  EXPECT_EQ(one->canonical, other->canonical);
}

TEST(ModelConfigTest, TheCanonicalFormReadsAsTheSame) {
  for (const char* text :
       {R"({"model_type":"ttt","hidden_size":64,"use_gate":true,
            "num_attention_heads":4,"bos_token_id":null})",
        R"({"model_type":"infini-llama","hidden_size":64,"head_dim":6,
            "num_attention_heads":4,"eos_token_id":[5,6]})",
        R"({"model_type":"qwen3","attention_window":9,"attention_sinks":2,
            "attention_bias":true,
            "rope_scaling":{"rope_type":"llama3","factor":8}})"}) {
    const absl::StatusOr<ModelConfig> config = ParseModelConfig(text);
    ASSERT_THAT(config, IsOk());
    const absl::StatusOr<ModelConfig> again =
        ParseModelConfig(config->canonical);
    ASSERT_THAT(again, IsOk());
    EXPECT_EQ(again->canonical, config->canonical);
  }
}

TEST(ModelConfigTest, HarmlessKeysPassAndChangeNothing) {
  const std::string wanted = CanonicalOf("");
  for (const char* key :
       {"_name_or_path", "auto_map", "dropout", "dtype", "id2label",
        "initializer_range", "label2id", "max_position_embeddings",
        "output_attentions", "output_hidden_states", "pad_token_id",
        "pretraining_tp", "scan_checkpoint_group_size", "torch_dtype",
        "transformers_version", "use_cache"}) {
    for (const char* value : {"1", "\"text\"", "null", "{\"a\":[1]}"}) {
      EXPECT_EQ(CanonicalOf(absl::StrCat("\"", key, "\": ", value)), wanted)
          << key;
    }
  }
}

TEST(ModelConfigTest, OtherSpellingsOfTheSameSettingsAreTheSame) {
  const std::string wanted = CanonicalOf("");
  for (const char* members :
       {"\"vocab_size\": 32000", "\"rope_theta\": 10000", "\"rope_theta\": 1e4",
        "\"rms_norm_eps\": 0.000001", "\"rms_norm_eps\": 1e-06",
        "\"ttt_layer_type\": \"linear\"", "\"hidden_act\": \"silu\"",
        "\"eos_token_id\": [2]", "\"bos_token_id\": [1]",
        "\"use_gate\": false"}) {
    EXPECT_EQ(CanonicalOf(members), wanted) << members;
  }
}

TEST(ModelConfigTest, EverySettingChangesTheCanonicalForm) {
  std::vector<std::string> forms;
  for (const char* members : {"",
                              "\"vocab_size\": 31999",
                              "\"hidden_size\": 1024",
                              "\"intermediate_size\": 5503",
                              "\"num_hidden_layers\": 23",
                              "\"ttt_layer_type\": \"mlp\"",
                              "\"num_attention_heads\": 16",
                              "\"rms_norm_eps\": 1e-5",
                              "\"tie_word_embeddings\": false",
                              "\"rope_theta\": 10001",
                              "\"ttt_base_lr\": 0.1",
                              "\"mini_batch_size\": 15",
                              "\"share_qk\": true",
                              "\"use_gate\": true",
                              "\"pre_conv\": true",
                              "\"conv_kernel\": 3",
                              "\"bos_token_id\": null",
                              "\"bos_token_id\": 3",
                              "\"eos_token_id\": null",
                              "\"eos_token_id\": [2, 3]",
                              "\"tokenizer\": \"bytes\""}) {
    const std::string form = CanonicalOf(members);
    EXPECT_THAT(forms, testing::Not(testing::Contains(form))) << members;
    forms.push_back(form);
  }
}

TEST(ModelConfigTest, ChatTemplatesAreNamedOrTheVocabularys) {
  EXPECT_EQ(Parse("")->chat_template, "");
  EXPECT_EQ(Parse("\"chat_template\": \"default\"")->canonical,
            Parse("")->canonical);
  const auto config =
      Parse("\"chat_template\": \"llama3\", \"user_token_id\": 7");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->chat_template, "llama3");
  EXPECT_EQ(config->user_token, 7);
  EXPECT_FALSE(config->assistant_token.has_value());
  EXPECT_EQ(ParseModelConfig(ToConfigJson(*config))->canonical,
            config->canonical);
  EXPECT_THAT(Parse("\"chat_template\": \"alpaca\""),
              Fails(absl::StatusCode::kInvalidArgument, "\"llama3\""));
  EXPECT_THAT(Parse("\"vocab_size\": 300, \"assistant_token_id\": 300"),
              Fails(absl::StatusCode::kInvalidArgument, "below"));
  EXPECT_THAT(Parse("\"tokenizer\": \"bytes\", \"user_token_id\": 255"),
              Fails(absl::StatusCode::kInvalidArgument, "256 or above"));
}

}  // namespace
}  // namespace mneme
