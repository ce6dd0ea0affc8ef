// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/load_served_model.h"

#include <utility>

#include "engine/base/status_macros.h"

namespace mneme {
namespace {

// Prepares weights between the passes of models that are served.
class PreparerBetweenPasses final : public Preparer {
 public:
  PreparerBetweenPasses(Scheduler* scheduler, Backend* backend)
      : scheduler_(scheduler), backend_(backend) {}

  absl::StatusOr<std::unique_ptr<const Matrix>> PrepareMatrix(
      const TensorView& weight) override {
    absl::StatusOr<std::unique_ptr<const Matrix>> matrix;
    scheduler_->WithoutPasses(
        [&] { matrix = backend_->PrepareMatrix(weight); });
    return matrix;
  }
  absl::Status Reserve(const MixerParams& params, int64_t rows) override {
    absl::Status status;
    scheduler_->WithoutPasses(
        [&] { status = backend_->Reserve(params, rows); });
    return status;
  }
  absl::Status Multiply(const Matrix& weight, ConstRows x, Rows y) override {
    absl::Status status;
    scheduler_->WithoutPasses(
        [&] { status = backend_->Multiply(weight, x, y); });
    return status;
  }

 private:
  Scheduler* const scheduler_;
  Backend* const backend_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const ServedModel>> LoadServedModel(
    const std::string& name, const std::string& directory,
    const ModelSettings& settings, Backend& backend, const Clock& clock,
    Scheduler& scheduler) {
  auto served = std::make_shared<ServedModel>();
  served->name = name;
  PreparerBetweenPasses preparer(&scheduler, &backend);
  MNEME_ASSIGN_OR_RETURN(
      served->model,
      Model::Load(directory, {.settings = settings}, &backend, &preparer));
  MNEME_RETURN_IF_ERROR(AddTokenizer(*served));
  served->load_time = clock.Now();
  MNEME_RETURN_IF_ERROR(scheduler.AddModel(name, served->model));
  return served;
}

}  // namespace mneme
