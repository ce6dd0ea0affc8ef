// SPDX-License-Identifier: Apache-2.0
#include "engine/tools/parity.h"

#include <memory>

#include "engine/base/status_macros.h"
#include "engine/tools/parity_case.h"

namespace mneme {

absl::StatusOr<std::vector<ParityLine>> RunParity(
    const std::string& case_directory, const ParityOptions& options,
    Backend& backend) {
  MNEME_ASSIGN_OR_RETURN(
      const std::shared_ptr<const Model> model,
      Model::Load(case_directory, {.block_tokens = options.block_tokens},
                  &backend));
  MNEME_ASSIGN_OR_RETURN(
      const std::unique_ptr<SafetensorsFile> expected,
      SafetensorsFile::Open(case_directory + "/expected.safetensors"));
  ParityCase run(*model, expected->tensors(), options);
  const bool sequences = expected->tensors().count("input_ids") != 0;
  MNEME_RETURN_IF_ERROR(sequences ? RunSequencesCase(run) : RunTttCase(run));
  if (!run.compared()) {
    return absl::InvalidArgumentError(
        "expected.safetensors holds nothing to compare with");
  }
  if (!options.dump.empty()) MNEME_RETURN_IF_ERROR(run.Dump());
  return run.TakeLines();
}

}  // namespace mneme
