// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/generate_options_coding.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using absl::StatusCode;

constexpr int64_t kVocabSize = 264;

// Nothing has its default.
GenerateOptions AllSet() {
  return {.session = "gone",
          .uid = "gone",
          .prompt = "gone",
          .max_tokens = 7,
          .sampling = {.temperature = 0.5f,
                       .top_k = 3,
                       .top_p = 0.9f,
                       .min_p = 0.01f,
                       .typical_p = 0.8f,
                       .repetition_penalty = 1.1f,
                       .presence_penalty = 0.2f,
                       .frequency_penalty = -0.3f,
                       .penalty_window_tokens = 100,
                       .seed = 1,
                       .logit_bias = {{5, 1.5f}, {263, -2.0f}}},
          .stop = {"a", std::string(kMaxStopBytes, 'b')},
          .stop_tokens = {9, 8},
          .ignore_eos = true,
          .logprobs = true,
          .top_logprobs = 4,
          .role = "user",
          .request_id = "id",
          .request_digest = "digest",
          .output_offset = 0,
          .on_disconnect = OnDisconnect::kFinish};
}

std::string Encoded(const GenerateOptions& options, uint64_t seed = 77) {
  std::string bytes;
  EncodeGenerateOptions(options, seed, bytes);
  return bytes;
}

absl::StatusOr<GenerateOptions> Decode(std::string_view bytes) {
  return DecodeGenerateOptions(bytes, SessionUnit::kText, kVocabSize);
}

TEST(GenerateOptionsCodingTest, EverythingIsKeptThatAGenerationGoesOnBy) {
  const GenerateOptions wanted = AllSet();
  const auto found = Decode(Encoded(wanted));
  ASSERT_THAT(found, IsOk());
  EXPECT_EQ(found->session, "");
  EXPECT_EQ(found->uid, "");
  EXPECT_FALSE(found->prompt.has_value());
  EXPECT_EQ(found->max_tokens, wanted.max_tokens);
  EXPECT_EQ(found->sampling.temperature, wanted.sampling.temperature);
  EXPECT_EQ(found->sampling.top_k, wanted.sampling.top_k);
  EXPECT_EQ(found->sampling.top_p, wanted.sampling.top_p);
  EXPECT_EQ(found->sampling.min_p, wanted.sampling.min_p);
  EXPECT_EQ(found->sampling.typical_p, wanted.sampling.typical_p);
  EXPECT_EQ(found->sampling.repetition_penalty,
            wanted.sampling.repetition_penalty);
  EXPECT_EQ(found->sampling.presence_penalty, wanted.sampling.presence_penalty);
  EXPECT_EQ(found->sampling.frequency_penalty,
            wanted.sampling.frequency_penalty);
  EXPECT_EQ(found->sampling.penalty_window_tokens,
            wanted.sampling.penalty_window_tokens);
  EXPECT_EQ(found->sampling.seed, 77u);
  EXPECT_EQ(found->sampling.logit_bias, wanted.sampling.logit_bias);
  EXPECT_EQ(found->stop, wanted.stop);
  EXPECT_EQ(found->stop_tokens, wanted.stop_tokens);
  EXPECT_EQ(found->ignore_eos, wanted.ignore_eos);
  EXPECT_EQ(found->logprobs, wanted.logprobs);
  EXPECT_EQ(found->top_logprobs, wanted.top_logprobs);
  EXPECT_EQ(found->commit, wanted.commit);
  EXPECT_EQ(found->role, wanted.role);
  EXPECT_EQ(found->request_id, wanted.request_id);
  EXPECT_EQ(found->request_digest, wanted.request_digest);
  EXPECT_EQ(found->on_disconnect, wanted.on_disconnect);
}

TEST(GenerateOptionsCodingTest, DefaultsStayDefaults) {
  const auto found = Decode(Encoded({}, 0));
  ASSERT_THAT(found, IsOk());
  EXPECT_EQ(found->sampling.seed, 0u);
  EXPECT_TRUE(found->commit);
  EXPECT_EQ(Encoded(*found, 0), Encoded({}, 0));
}

TEST(GenerateOptionsCodingTest, NoPieceOfARecordIsOne) {
  const std::string bytes = Encoded(AllSet());
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_THAT(Decode(bytes.substr(0, size)),
                Fails(StatusCode::kDataLoss, "generation: "))
        << size;
  }
  EXPECT_THAT(Decode(bytes + '\0'), Fails(StatusCode::kDataLoss, "torn"));
}

TEST(GenerateOptionsCodingTest, ABitThatFlipsIsAnErrorOrIsSeen) {
  const std::string bytes = Encoded(AllSet());
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      const auto options = Decode(damaged);
      if (options.ok()) {
        ASSERT_EQ(Encoded(*options, *options->sampling.seed), damaged);
      }
    }
  }
}

TEST(GenerateOptionsCodingTest, WhatNoRequestMayAskForIsDamaged) {
  GenerateOptions options = AllSet();
  options.sampling.logit_bias = {{264, 1.0f}};
  EXPECT_THAT(Decode(Encoded(options)),
              Fails(StatusCode::kDataLoss, "found token 264"));
  options = AllSet();
  options.max_tokens = 0;
  EXPECT_THAT(Decode(Encoded(options)),
              Fails(StatusCode::kDataLoss, "max_tokens"));
}

TEST(GenerateOptionsCodingTest, ANewerVersionIsNamed) {
  std::string bytes = Encoded(AllSet());
  bytes[0] = 2;
  EXPECT_THAT(Decode(bytes),
              Fails(StatusCode::kFailedPrecondition, "version is 2, wanted 1"));
}

}  // namespace
}  // namespace mneme
