// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_SUPPORT_FAULT_BACKEND_H_
#define MNEME_TESTS_SUPPORT_FAULT_BACKEND_H_

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "engine/ops/backend.h"

namespace mneme {

// A backend whose n-th pass from now fails after it has computed everything,
// the worst moment for what it wrote.
class FaultBackend final : public Backend {
 public:
  explicit FaultBackend(std::unique_ptr<Backend> inner)
      : inner_(std::move(inner)) {}

  // 1: the next. 0: none.
  void FailPass(int n) { countdown_ = n; }

  std::string_view name() const override { return inner_->name(); }
  std::string arithmetic_level() const override {
    return inner_->arithmetic_level();
  }
  absl::StatusOr<std::unique_ptr<const Matrix>> PrepareMatrix(
      const TensorView& weight) override {
    return inner_->PrepareMatrix(weight);
  }
  absl::Status Reserve(const MixerParams& params, int64_t rows) override {
    return inner_->Reserve(params, rows);
  }
  absl::Status Multiply(const Matrix& weight, ConstRows x, Rows y) override {
    return inner_->Multiply(weight, x, y);
  }
  void Matmul(ComputePath path, const Matrix& weight, ConstRows x,
              Rows y) override {
    inner_->Matmul(path, weight, x, y);
  }
  void GatherRows(const Matrix& table, absl::Span<const int32_t> ids,
                  float scale, Rows y) override {
    inner_->GatherRows(table, ids, scale, y);
  }
  void RmsNorm(ConstRows x, absl::Span<const float> weight, float eps,
               Rows y) override {
    inner_->RmsNorm(x, weight, eps, y);
  }
  void Accumulate(ConstRows x, Rows y) override { inner_->Accumulate(x, y); }
  void LayerNorm(ConstRows x, absl::Span<const float> weight,
                 absl::Span<const float> bias, float eps, Rows y) override {
    inner_->LayerNorm(x, weight, bias, eps, y);
  }
  void Activate(Activation activation, ConstRows up, Rows gate) override {
    inner_->Activate(activation, up, gate);
  }
  void ScaledSigmoid(absl::Span<const float> bias, float scale,
                     Rows x) override {
    inner_->ScaledSigmoid(bias, scale, x);
  }
  void ScaledHardSigmoid(absl::Span<const float> bias, float stretch,
                         float scale, Rows x) override {
    inner_->ScaledHardSigmoid(bias, stretch, scale, x);
  }
  void NormaliseHeads(int64_t head_dim, float eps, Rows x) override {
    inner_->NormaliseHeads(head_dim, eps, x);
  }
  void AdaptiveLogSoftmax(absl::Span<const int64_t> ends, ConstRows clusters,
                          Rows logits) override {
    inner_->AdaptiveLogSoftmax(ends, clusters, logits);
  }
  void CausalConv(const CausalConvParams& params, ConstRows x,
                  absl::Span<const CausalConvSlice> slices, Rows y) override {
    inner_->CausalConv(params, x, slices, y);
  }
  void Ttt(ComputePath path, const TttParams& params, const TttInputs& inputs,
           absl::Span<const TttSlice> slices, Rows out) override {
    inner_->Ttt(path, params, inputs, slices, out);
  }
  void Delta(const DeltaParams& params, const DeltaInputs& inputs,
             absl::Span<DeltaSlice> slices, Rows out) override {
    inner_->Delta(params, inputs, slices, out);
  }
  void Infini(ComputePath path, const InfiniParams& params,
              const InfiniInputs& inputs, absl::Span<const InfiniSlice> slices,
              Rows out) override {
    inner_->Infini(path, params, inputs, slices, out);
  }
  void Attention(ComputePath path, const AttentionParams& params,
                 const AttentionInputs& inputs,
                 absl::Span<const AttentionSlice> slices, Rows out) override {
    inner_->Attention(path, params, inputs, slices, out);
  }
  void Rotate(RotationPairs pairs, ConstRows cosines, ConstRows sines,
              int64_t head_dim, Rows x) override {
    inner_->Rotate(pairs, cosines, sines, head_dim, x);
  }
  void AddBias(absl::Span<const float> bias, Rows x) override {
    inner_->AddBias(bias, x);
  }
  void CloseInfiniSegment(const InfiniParams& params,
                          const InfiniSlice& slice) override {
    inner_->CloseInfiniSegment(params, slice);
  }
  absl::Status Finish() override {
    absl::Status status = inner_->Finish();
    if (countdown_ > 0 && --countdown_ == 0) {
      status = absl::InternalError("a fault that was asked for");
    }
    return status;
  }

 private:
  const std::unique_ptr<Backend> inner_;
  std::atomic<int> countdown_{0};
};

}  // namespace mneme

#endif  // MNEME_TESTS_SUPPORT_FAULT_BACKEND_H_
