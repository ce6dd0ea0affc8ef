// SPDX-License-Identifier: Apache-2.0
#include "engine/tools/parity.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/base/files.h"
#include "engine/base/json_text.h"
#include "engine/base/status_macros.h"
#include "engine/tools/parity_case.h"

namespace mneme {

namespace {

constexpr int64_t kMaxConfigBytes = 1 << 20;

// The case's config.json. Where what tokens see depends on where segments
// begin, the case says that, and not its config.
absl::StatusOr<ModelConfig> ReadCaseConfig(const std::string& directory,
                                           const TensorMap& expected,
                                           const ModelSettings& settings) {
  if (expected.count("segment_lengths") == 0) {
    return ReadModelConfig(directory, settings);
  }
  constexpr int64_t kLongest = int64_t{1} << 20;
  MNEME_ASSIGN_OR_RETURN(
      const std::vector<int64_t> lengths,
      ParityCase::Integers(expected, "segment_lengths", 1, kLongest));
  MNEME_ASSIGN_OR_RETURN(
      const std::string text,
      ReadSmallFile(directory + "/config.json", kMaxConfigBytes));
  MNEME_ASSIGN_OR_RETURN(nlohmann::json object,
                         ParseJsonObject(text, "config.json"));
  object["segment_length"] = *std::max_element(lengths.begin(), lengths.end());
  MNEME_ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(object.dump()));
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    config.relative.segment_begins.push_back(begin);
    begin += length;
  }
  return config;
}

}  // namespace

absl::StatusOr<std::vector<ParityLine>> RunParity(
    const std::string& case_directory, const ParityOptions& options,
    Backend& backend) {
  MNEME_ASSIGN_OR_RETURN(
      const std::unique_ptr<SafetensorsFile> expected,
      SafetensorsFile::Open(case_directory + "/expected.safetensors"));
  MNEME_ASSIGN_OR_RETURN(
      ModelConfig config,
      ReadCaseConfig(case_directory, expected->tensors(), options.settings));
  MNEME_ASSIGN_OR_RETURN(
      const std::shared_ptr<const Model> model,
      Model::Load(std::move(config), case_directory,
                  {.block_tokens = options.block_tokens}, &backend));
  ParityCase run(*model, expected->tensors(), options);
  const bool sequences = expected->tensors().count("input_ids") != 0;
  if (model->config().HasMixer(MixerType::kRelativeAttention)) {
    MNEME_RETURN_IF_ERROR(RunTransformerXlCase(run));
  } else {
    MNEME_RETURN_IF_ERROR(sequences ? RunSequencesCase(run) : RunTttCase(run));
  }
  if (!run.compared()) {
    return absl::InvalidArgumentError(
        "expected.safetensors holds nothing to compare with");
  }
  if (!options.dump.empty()) MNEME_RETURN_IF_ERROR(run.Dump());
  return run.TakeLines();
}

}  // namespace mneme
