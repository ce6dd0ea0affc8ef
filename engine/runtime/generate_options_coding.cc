// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/generate_options_coding.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_coder.h"
#include "engine/base/errors.h"
#include "engine/runtime/requests.h"

namespace mneme {
namespace {

constexpr uint32_t kVersion = 1;

void EncodeSampling(const SamplingOptions& sampling, uint64_t seed,
                    ByteWriter& out) {
  out.F32(sampling.temperature);
  out.I64(sampling.top_k);
  out.F32(sampling.top_p);
  out.F32(sampling.min_p);
  out.F32(sampling.typical_p);
  out.F32(sampling.repetition_penalty);
  out.F32(sampling.presence_penalty);
  out.F32(sampling.frequency_penalty);
  out.I64(sampling.penalty_window_tokens);
  out.U64(seed);
  out.U64(sampling.logit_bias.size());
  for (const auto& [token, bias] : sampling.logit_bias) {
    out.U32(static_cast<uint32_t>(token));
    out.F32(bias);
  }
}

SamplingOptions DecodeSampling(ByteReader& in) {
  SamplingOptions sampling;
  sampling.temperature = in.F32();
  const int64_t top_k = in.Count();
  sampling.top_k = static_cast<int32_t>(top_k);
  if (sampling.top_k != top_k) in.Fail();
  sampling.top_p = in.F32();
  sampling.min_p = in.F32();
  sampling.typical_p = in.F32();
  sampling.repetition_penalty = in.F32();
  sampling.presence_penalty = in.F32();
  sampling.frequency_penalty = in.F32();
  sampling.penalty_window_tokens = in.Count();
  sampling.seed = in.U64();
  for (uint64_t left = in.U64(); left > 0 && in.ok(); --left) {
    const auto token = static_cast<int32_t>(in.U32());
    const float bias = in.F32();
    // In the order of their tokens.
    auto& biases = sampling.logit_bias;
    if (!biases.empty() && token <= biases.rbegin()->first) in.Fail();
    biases.emplace_hint(biases.end(), token, bias);
  }
  return sampling;
}

}  // namespace

void EncodeGenerateOptions(const GenerateOptions& options, uint64_t seed,
                           std::string& out) {
  ByteWriter writer(out);
  writer.U32(kVersion);
  writer.I64(options.max_tokens);
  EncodeSampling(options.sampling, seed, writer);
  writer.U64(options.stop.size());
  for (const std::string& stop : options.stop) writer.Bytes(stop);
  writer.U64(options.stop_tokens.size());
  for (const int32_t token : options.stop_tokens) {
    writer.U32(static_cast<uint32_t>(token));
  }
  writer.Bool(options.ignore_eos);
  writer.Bool(options.logprobs);
  writer.I64(options.top_logprobs);
  writer.Bool(options.commit);
  writer.Bytes(options.role);
  writer.Bytes(options.request_id);
  writer.Bytes(options.request_digest);
  writer.Bool(options.on_disconnect == OnDisconnect::kFinish);
}

absl::StatusOr<GenerateOptions> DecodeGenerateOptions(std::string_view in,
                                                      SessionUnit unit,
                                                      int64_t vocab_size) {
  ByteReader reader(in);
  const uint32_t version = reader.U32();
  if (version > kVersion) {
    return WithReason(absl::FailedPreconditionError(
                          absl::StrCat("generation: the record's version is ",
                                       version, ", wanted ", kVersion)),
                      {.reason = "STATE_INCOMPATIBLE",
                       .metadata = {{"found", absl::StrCat(version)},
                                    {"expected", absl::StrCat(kVersion)}}});
  }
  GenerateOptions options;
  options.max_tokens = reader.Count();
  options.sampling = DecodeSampling(reader);
  for (uint64_t left = reader.U64(); left > 0 && reader.ok(); --left) {
    options.stop.push_back(reader.String());
  }
  for (uint64_t left = reader.U64(); left > 0 && reader.ok(); --left) {
    options.stop_tokens.push_back(static_cast<int32_t>(reader.U32()));
  }
  options.ignore_eos = reader.Bool();
  options.logprobs = reader.Bool();
  options.top_logprobs = reader.Count();
  options.commit = reader.Bool();
  options.role = reader.String();
  options.request_id = reader.String();
  options.request_digest = reader.String();
  if (reader.Bool()) options.on_disconnect = OnDisconnect::kFinish;
  if (version == 0 || !reader.done()) {
    return absl::DataLossError("generation: found a torn record");
  }
  const absl::Status status = CheckGenerate(options, unit, vocab_size);
  if (!status.ok()) {
    return absl::DataLossError(absl::StrCat("generation: ", status.message()));
  }
  return options;
}

}  // namespace mneme
