// SPDX-License-Identifier: Apache-2.0
//
// Kernels over rows, compiled for each instruction set and chosen when they
// run. The result for a row depends on that row alone: each sum goes over its
// elements in one order, lane by lane, whatever other rows there are.
// Contracts: engine/ops/backend.h.
#ifndef MNEME_ENGINE_OPS_CPU_ROW_KERNELS_H_
#define MNEME_ENGINE_OPS_CPU_ROW_KERNELS_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "engine/ops/backend.h"

namespace mneme::cpu {

// y [rows, outs] = x [rows, in] Wᵀ for `outs` consecutive rows of a weight
// matrix, whose stride is whole vectors with zeros behind column `in`.
void DotRows(const float* weight, int64_t weight_stride, int64_t outs,
             ConstRows x, Rows y);

void RmsNormRows(ConstRows x, const float* weight, float eps, Rows y);
void AccumulateRows(ConstRows x, Rows y);
void LayerNormRows(ConstRows x, const float* weight, const float* bias,
                   float eps, Rows y);
void ActivateRows(Activation activation, ConstRows up, Rows gate);
void ScaledSigmoidRows(const float* bias, float scale, Rows x);
void ScaledHardSigmoidRows(const float* bias, float stretch, float scale,
                           Rows x);
void NormaliseHeadsRows(int64_t head_dim, float eps, Rows x);
void AddBiasRows(const float* bias, Rows x);
// As Backend::Rotate; all three have the same rows.
void RotateRows(RotationPairs pairs, ConstRows cosines, ConstRows sines,
                int64_t head_dim, Rows x);

// As Backend::AdaptiveLogSoftmax.
void AdaptiveLogSoftmaxRows(absl::Span<const int64_t> ends, ConstRows clusters,
                            Rows logits);

// Row `row` of `slice`, 0 <= row < slice.rows; x and y hold all slices.
void CausalConvRow(const CausalConvParams& params, const CausalConvSlice& slice,
                   int64_t row, ConstRows x, Rows y);

// The instruction set in use: "AVX3".
std::string TargetName();

}  // namespace mneme::cpu

#endif  // MNEME_ENGINE_OPS_CPU_ROW_KERNELS_H_
