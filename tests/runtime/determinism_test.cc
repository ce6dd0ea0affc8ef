// SPDX-License-Identifier: Apache-2.0
//
// Promise 3: a session's state is a function of its own history, bit for bit:
// not of how the history was cut into messages, of what ran beside it, or of
// the number of threads.
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/tools/presets.h"
#include "gtest/gtest.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_sentencepiece.h"

namespace mneme {
namespace {

constexpr char kModel[] = "m";

// What happens to a session: input, and where it is asked for output.
struct Script {
  struct Turn {
    std::string input;
    int64_t ask_tokens = 0;  // 0: no Ask
    SamplingOptions sampling;
  };
  std::vector<Turn> turns;
};

SamplingOptions RandomSampling(std::mt19937& random) {
  const auto between = [&random](float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(random);
  };
  SamplingOptions sampling{.temperature = 0.9f};
  if (random() % 2 == 0) return sampling;
  sampling.top_k = std::uniform_int_distribution<>(0, 100)(random);
  sampling.top_p = between(0.5f, 1);
  sampling.min_p = between(0, 0.1f);
  sampling.typical_p = between(0.5f, 1);
  sampling.repetition_penalty = between(0.5f, 2);
  sampling.presence_penalty = between(-1, 1);
  sampling.frequency_penalty = between(-1, 1);
  sampling.penalty_window_tokens =
      std::uniform_int_distribution<>(0, 1024)(random);
  sampling.logit_bias = {{65, 1.5f}};
  return sampling;
}

std::string RandomBytes(std::mt19937& random) {
  std::string bytes(std::uniform_int_distribution<>(1, 150)(random), '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// May end inside a character, with which the next then goes on.
std::string RandomUtf8(std::mt19937& random, std::string& cut_off) {
  std::string text = std::exchange(cut_off, "");
  const int parts = std::uniform_int_distribution<>(1, 40)(random);
  for (int i = 0; i < parts; ++i) {
    const char* const kParts[] = {" the",     " word",
                                  "a",        " ",
                                  "\xc3\xa9", "and",
                                  " \n",      "\xe4\xb8\xad",
                                  "X9",       "\xf0\x9f\x98\x80"};
    text += kParts[random() % std::size(kParts)];
  }
  if (random() % 3 == 0) {
    const std::string emoji = "\xf0\x9f\x98\x80";
    const size_t cut = 1 + random() % 3;
    text += emoji.substr(0, cut);
    cut_off = emoji.substr(cut);
  }
  return text;
}

Script RandomScript(std::mt19937& random, bool utf8) {
  Script script;
  std::string cut_off;
  const int turns = std::uniform_int_distribution<>(1, 3)(random);
  for (int i = 0; i < turns; ++i) {
    Script::Turn turn;
    turn.input = utf8 ? RandomUtf8(random, cut_off) : RandomBytes(random);
    if (random() % 2 == 0) {
      turn.ask_tokens = std::uniform_int_distribution<>(1, 5)(random);
      turn.sampling = RandomSampling(random);
    }
    script.turns.push_back(std::move(turn));
  }
  return script;
}

struct Outcome {
  std::string state_digest;
  std::string history_digest;
  int64_t position = 0;
  std::string said;

  bool operator==(const Outcome&) const = default;
};

class DeterminismTest : public testing::Test {
 protected:
  void MakeEngines(const ModelConfig& config) {
    ASSERT_THAT(WriteRandomModel(config, 7, model_dir_.path()), IsOk());
    utf8_ = config.tokenizer == "sentencepiece";
    if (utf8_)
      WriteFile(model_dir_.File("tokenizer.model"), TinySentencePieceModel());
    for (const int threads : {1, 2}) {
      absl::StatusOr<std::unique_ptr<Engine>> engine =
          Engine::Create({.threads = threads});
      ASSERT_THAT(engine, IsOk());
      ASSERT_THAT((*engine)->LoadModel(kModel, model_dir_.path()), IsOk());
      engines_.push_back(*std::move(engine));
    }
  }

  // Plays `script` on a new session, its input cut by `sizes`.
  void Play(Engine& engine, const std::string& id, const Script& script,
            const std::vector<int64_t>& sizes, Outcome& outcome) {
    ASSERT_THAT(engine.CreateSession({.id = id, .model = kModel}), IsOk());
    uint64_t seed = 1;
    for (const Script::Turn& turn : script.turns) {
      ASSERT_THAT(AppendAll(engine, id, turn.input, sizes), IsOk());
      if (turn.ask_tokens == 0) continue;
      GenerateOptions options{.session = id,
                              .max_tokens = turn.ask_tokens,
                              .sampling = turn.sampling,
                              .ignore_eos = true};
      options.sampling.seed = seed++;
      const absl::StatusOr<Generated> said = GenerateAll(engine, options);
      ASSERT_THAT(said, IsOk());
      outcome.said += said->text;
    }
    const absl::StatusOr<SessionInfo> info = Describe(engine, id);
    ASSERT_THAT(info, IsOk());
    outcome.state_digest = info->state_digest;
    outcome.history_digest = info->history_digest;
    outcome.position = info->position;
    ASSERT_THAT(engine.DeleteSession(id, ""), IsOk());
  }

  // `combinations` plays of random scripts against the play of each alone,
  // uncut, on one thread; as many sessions at once as `mates` says.
  void Check(int combinations, unsigned seed) {
    std::mt19937 random(seed);
    int played = 0;
    while (played < combinations) {
      const int mates = std::uniform_int_distribution<>(1, 6)(random);
      std::vector<Script> scripts;
      std::vector<std::vector<int64_t>> cuts(mates);
      std::vector<Outcome> wanted(mates);
      std::vector<Outcome> found(mates);
      for (int i = 0; i < mates; ++i) {
        scripts.push_back(RandomScript(random, utf8_));
        for (int c = 0; c < 3; ++c) {
          cuts[i].push_back(std::uniform_int_distribution<>(1, 90)(random));
        }
        Play(*engines_[0], "alone", scripts[i], {}, wanted[i]);
      }
      Engine& engine = *engines_[random() % 2];
      std::vector<std::thread> threads;
      threads.reserve(mates);
      for (int i = 0; i < mates; ++i) {
        threads.emplace_back([&, i] {
          Play(engine, "mate" + std::to_string(i), scripts[i], cuts[i],
               found[i]);
        });
      }
      for (std::thread& thread : threads) thread.join();
      for (int i = 0; i < mates; ++i) {
        EXPECT_EQ(found[i].state_digest, wanted[i].state_digest);
        EXPECT_TRUE(found[i] == wanted[i]) << "play " << played;
      }
      if (HasFailure()) return;
      played += mates;
    }
  }

  TempDir model_dir_;
  bool utf8_ = false;
  std::vector<std::unique_ptr<Engine>> engines_;
};

ModelConfig SmallConfig() {
  ModelConfig config;
  config.vocab_size = 264;
  config.model_dim = 48;
  config.ffn_dim = 80;
  config.layers = 2;
  config.heads = 3;
  config.tokenizer = "bytes";
  config.bos_token = 256;
  config.eos_tokens = {259};
  return config;
}

TEST_F(DeterminismTest, CutsBatchMatesAndThreadsLeaveNoTrace) {
  MakeEngines(SmallConfig());
  Check(1000, 1);
}

TEST_F(DeterminismTest, NorWithConvolutionsGateAndOddMiniBatch) {
  ModelConfig config = SmallConfig();
  config.ttt.share_qk = true;
  config.ttt.use_gate = true;
  config.pre_conv = true;
  config.ttt.mini_batch = 7;
  config.tie_word_embeddings = false;
  MakeEngines(config);
  Check(300, 2);
}

TEST_F(DeterminismTest, NorWithAMiniBatchLongerThanABlock) {
  ModelConfig config = SmallConfig();
  config.ttt.mini_batch = 100;
  MakeEngines(config);
  Check(200, 3);
}

TEST_F(DeterminismTest, NorWithInfiniAttention) {
  ModelConfig config = *PresetConfig("infini-tiny");
  config.infini.segment = 100;
  MakeEngines(config);
  Check(300, 12);
}

TEST_F(DeterminismTest, NorWithSeveralSegmentsToABlock) {
  ModelConfig config = *PresetConfig("infini-tiny");
  config.infini.segment = 9;
  config.infini.kv_heads = 1;
  config.infini.update_rule = "linear_delta";
  MakeEngines(config);
  Check(300, 13);
}

TEST_F(DeterminismTest, NorWithAWindowAndSinks) {
  MakeEngines(*PresetConfig("window-tiny"));
  Check(300, 14);
}

TEST_F(DeterminismTest, NorWithAWindowShorterThanABlock) {
  ModelConfig config = *PresetConfig("window-tiny");
  config.attention.window = 7;
  config.attention.sinks = 0;
  MakeEngines(config);
  Check(300, 15);
}

TEST_F(DeterminismTest, NorWithTransformerXl) {
  MakeEngines(*PresetConfig("transformer-xl-tiny"));
  Check(300, 16);
}

TEST_F(DeterminismTest, NorWithTransformerXlInSegments) {
  ModelConfig config = *PresetConfig("transformer-xl-tiny");
  config.norm_place = NormPlace::kBefore;
  config.relative.same_length = false;
  config.relative.segment = 50;
  config.relative.memory = 33;
  config.relative.clamp = 0;
  MakeEngines(config);
  Check(300, 17);
}

TEST_F(DeterminismTest, NorWithTheDeltaRule) {
  MakeEngines(*PresetConfig("delta-tiny"));
  Check(300, 18);
}

TEST_F(DeterminismTest, NorWithLayersOfBothKinds) {
  MakeEngines(*PresetConfig("hybrid-tiny"));
  Check(300, 19);
}

// Most units of work write nothing then, and some do.
TEST_F(DeterminismTest, NorWithAGateThatSeldomOpens) {
  ModelConfig config = *PresetConfig("hybrid-tiny");
  config.ttt.lr_gate_stretch = 4.0f;
  MakeEngines(config);
  Check(300, 20);
}

TEST_F(DeterminismTest, NorWithAnInnerMlp) {
  ModelConfig config = SmallConfig();
  config.ttt.layer_type = "mlp";
  config.ttt.base_lr = 0.1f;
  MakeEngines(config);
  Check(300, 4);
}

TEST_F(DeterminismTest, NorWithAnInnerMlpConvolutionsAndGate) {
  ModelConfig config = SmallConfig();
  config.ttt.layer_type = "mlp";
  config.ttt.base_lr = 0.1f;
  config.ttt.share_qk = true;
  config.ttt.use_gate = true;
  config.pre_conv = true;
  config.ttt.mini_batch = 7;
  MakeEngines(config);
  Check(200, 5);
}

TEST_F(DeterminismTest, NorWithTextWhosePiecesMerge) {
  ModelConfig config = SmallConfig();
  config.tokenizer = "sentencepiece";
  config.vocab_size = kTinyVocabSize;
  config.bos_token = 1;
  config.eos_tokens = {2};
  MakeEngines(config);
  Check(500, 6);
}

TEST_F(DeterminismTest, AScoringWithoutCommitLeavesNoTrace) {
  MakeEngines(SmallConfig());
  Engine& engine = *engines_[1];
  const std::string text(100, 'x');
  std::string digests[2];
  for (const bool scored : {false, true}) {
    ASSERT_THAT(engine.CreateSession({.id = "s", .model = kModel}), IsOk());
    ASSERT_THAT(AppendAll(engine, "s", text), IsOk());
    if (scored) {
      ASSERT_THAT(ScoreAll(engine, {.session = "s"}, std::string(300, 'y')),
                  IsOk());
      ASSERT_THAT(GenerateAll(engine, {.session = "s",
                                       .prompt = std::string("zz"),
                                       .max_tokens = 9,
                                       .commit = false}),
                  IsOk());
    }
    ASSERT_THAT(AppendAll(engine, "s", text), IsOk());
    digests[scored] = Describe(engine, "s")->state_digest;
    ASSERT_THAT(engine.DeleteSession("s", ""), IsOk());
  }
  EXPECT_EQ(digests[0], digests[1]);
}

TEST_F(DeterminismTest, AScoreDoesNotDependOnItsCuts) {
  MakeEngines(SmallConfig());
  for (const bool commit : {false, true}) {
    std::vector<float> wanted;
    std::string digest;
    for (const std::vector<int64_t>& sizes :
         std::vector<std::vector<int64_t>>{{}, {1}, {64}, {63, 2}, {7, 100}}) {
      Engine& engine = *engines_[sizes.size() % 2];
      ASSERT_THAT(engine.CreateSession({.id = "s", .model = kModel}), IsOk());
      ASSERT_THAT(AppendAll(engine, "s", std::string(70, 'a')), IsOk());
      const absl::StatusOr<Scored> scored =
          ScoreAll(engine, {.session = "s", .commit = commit},
                   std::string(200, 'b'), sizes);
      ASSERT_THAT(scored, IsOk());
      std::vector<float> found;
      for (const auto& token : scored->tokens) found.push_back(token.logprob);
      ASSERT_EQ(found.size(), 200u);
      EXPECT_EQ(scored->finished.totals.tokens_scored, 200);
      const SessionInfo info = *Describe(engine, "s");
      EXPECT_EQ(info.next_offset, commit ? 270 : 70);
      if (wanted.empty()) {
        wanted = found;
        digest = info.state_digest;
      }
      EXPECT_EQ(found, wanted);
      EXPECT_EQ(info.state_digest, digest);
      ASSERT_THAT(engine.DeleteSession("s", ""), IsOk());
    }
  }
}

}  // namespace
}  // namespace mneme
