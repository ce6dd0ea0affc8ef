// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/reference/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/ops/reference/attention.h"
#include "engine/ops/reference/gelu.h"
#include "engine/ops/reference/infini.h"
#include "engine/ops/reference/ttt.h"
#include "engine/tensor/to_f32.h"

namespace mneme {
namespace {

struct ReferenceMatrix final : Matrix {
  ReferenceMatrix(int64_t out_rows, int64_t in_cols)
      : Matrix(out_rows, in_cols, out_rows * in_cols * 4),
        values(out_rows * in_cols) {}
  std::vector<float> values;
};

double Sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

class ReferenceBackend final : public Backend {
 public:
  std::string_view name() const override { return "reference"; }
  std::string arithmetic_level() const override { return "f64"; }

  absl::StatusOr<std::unique_ptr<const Matrix>> PrepareMatrix(
      const TensorView& weight) override {
    auto matrix =
        std::make_unique<ReferenceMatrix>(weight.shape[0], weight.shape[1]);
    CopyAsF32(weight, 0, weight.elements(), matrix->values.data());
    return matrix;
  }

  absl::Status Reserve(const MixerParams&, int64_t) override {
    return absl::OkStatus();
  }

  void Matmul(ComputePath, const Matrix& weight, ConstRows x, Rows y) override {
    const auto& w = static_cast<const ReferenceMatrix&>(weight);
    for (int64_t row = 0; row < x.rows; ++row) {
      for (int64_t n = 0; n < w.out(); ++n) {
        double sum = 0;
        for (int64_t k = 0; k < w.in(); ++k) {
          sum += double{x.row(row)[k]} * w.values[n * w.in() + k];
        }
        y.row(row)[n] = static_cast<float>(sum);
      }
    }
  }

  void GatherRows(const Matrix& table, absl::Span<const int32_t> ids,
                  Rows y) override {
    const auto& t = static_cast<const ReferenceMatrix&>(table);
    for (size_t row = 0; row < ids.size(); ++row) {
      std::copy_n(&t.values[ids[row] * t.in()], t.in(),
                  y.row(static_cast<int64_t>(row)));
    }
  }

  void RmsNorm(ConstRows x, absl::Span<const float> weight, float eps,
               Rows y) override {
    for (int64_t row = 0; row < x.rows; ++row) {
      double squares = 0;
      for (int64_t c = 0; c < x.cols; ++c) {
        squares += double{x.row(row)[c]} * x.row(row)[c];
      }
      const double rms = std::sqrt(squares / static_cast<double>(x.cols) + eps);
      for (int64_t c = 0; c < x.cols; ++c) {
        y.row(row)[c] = static_cast<float>(weight[c] * (x.row(row)[c] / rms));
      }
    }
  }

  void Accumulate(ConstRows x, Rows y) override {
    for (int64_t row = 0; row < x.rows; ++row) {
      for (int64_t c = 0; c < x.cols; ++c) y.row(row)[c] += x.row(row)[c];
    }
  }

  void SiluMul(ConstRows up, Rows gate) override {
    for (int64_t row = 0; row < up.rows; ++row) {
      for (int64_t c = 0; c < up.cols; ++c) {
        const double g = gate.row(row)[c];
        gate.row(row)[c] = static_cast<float>(g * Sigmoid(g) * up.row(row)[c]);
      }
    }
  }

  void ScaledSigmoid(absl::Span<const float> bias, float scale,
                     Rows x) override {
    for (int64_t row = 0; row < x.rows; ++row) {
      for (int64_t c = 0; c < x.cols; ++c) {
        x.row(row)[c] = static_cast<float>(
            scale * Sigmoid(double{x.row(row)[c]} + bias[c]));
      }
    }
  }

  void LayerNormGate(absl::Span<const float> weight,
                     absl::Span<const float> bias, float eps, ConstRows gate,
                     Rows x) override {
    const double cols = static_cast<double>(x.cols);
    for (int64_t row = 0; row < x.rows; ++row) {
      float* values = x.row(row);
      double mean = 0;
      for (int64_t c = 0; c < x.cols; ++c) mean += values[c] / cols;
      double variance = 0;
      for (int64_t c = 0; c < x.cols; ++c) {
        variance += (values[c] - mean) * (values[c] - mean) / cols;
      }
      const double deviation = std::sqrt(variance + eps);
      for (int64_t c = 0; c < x.cols; ++c) {
        const double y = weight[c] * ((values[c] - mean) / deviation) + bias[c];
        const double g =
            gate.data ? reference::GeluTanh(gate.row(row)[c]) : 1.0;
        values[c] = static_cast<float>(y * g);
      }
    }
  }

  void CausalConv(const CausalConvParams& params, ConstRows x,
                  absl::Span<const CausalConvSlice> slices, Rows y) override {
    const int64_t history = params.taps - 1;
    for (const CausalConvSlice& slice : slices) {
      // Input t of the slice; t < 0 lies in the window.
      auto input = [&](int64_t t) {
        return t < 0 ? slice.window + (history + t) * x.cols
                     : x.row(slice.first_row + t);
      };
      for (int64_t t = 0; t < slice.rows; ++t) {
        for (int64_t c = 0; c < x.cols; ++c) {
          double sum = params.bias[c];
          for (int64_t j = 0; j < params.taps; ++j) {
            sum += double{params.weight[j * x.cols + c]} *
                   input(t - history + j)[c];
          }
          y.row(slice.first_row + t)[c] = static_cast<float>(sum);
        }
      }
      if (slice.next_window == nullptr) continue;
      for (int64_t j = 0; j < history; ++j) {
        std::copy_n(input(slice.rows - history + j), x.cols,
                    slice.next_window + j * x.cols);
      }
    }
  }

  void Ttt(ComputePath, const TttParams& params, const TttInputs& inputs,
           absl::Span<const TttSlice> slices, Rows out) override {
    for (const TttSlice& slice : slices) {
      reference::TttSlicePrimal(params, inputs, slice, out);
    }
  }

  void Infini(ComputePath, const InfiniParams& params,
              const InfiniInputs& inputs, absl::Span<const InfiniSlice> slices,
              Rows out) override {
    for (const InfiniSlice& slice : slices) {
      reference::InfiniSliceByToken(params, inputs, slice, out);
    }
  }

  void Attention(ComputePath, const AttentionParams& params,
                 const AttentionInputs& inputs,
                 absl::Span<const AttentionSlice> slices, Rows out) override {
    for (const AttentionSlice& slice : slices) {
      reference::AttentionSliceByToken(params, inputs, slice, out);
    }
  }

  void Rotate(RotationPairs pairs, ConstRows cosines, ConstRows sines,
              int64_t head_dim, Rows x) override {
    const int64_t half = head_dim / 2;
    const bool halves = pairs == RotationPairs::kHalves;
    for (int64_t row = 0; row < x.rows; ++row) {
      for (int64_t first = 0; first < x.cols; first += head_dim) {
        for (int64_t m = 0; m < half; ++m) {
          float& a = x.row(row)[first + (halves ? m : 2 * m)];
          float& b = x.row(row)[first + (halves ? m + half : 2 * m + 1)];
          const double c = cosines.row(row)[m];
          const double s = sines.row(row)[m];
          const double turned = a * c - b * s;
          b = static_cast<float>(b * c + a * s);
          a = static_cast<float>(turned);
        }
      }
    }
  }

  void AddBias(absl::Span<const float> bias, Rows x) override {
    for (int64_t row = 0; row < x.rows; ++row) {
      for (int64_t c = 0; c < x.cols; ++c) x.row(row)[c] += bias[c];
    }
  }

  void CloseInfiniSegment(const InfiniParams& params,
                          const InfiniSlice& slice) override {
    reference::WriteInfiniMemory(params, slice.memory, slice.open, slice.slot,
                                 slice.next_memory);
  }

  absl::Status Finish() override { return absl::OkStatus(); }
};

}  // namespace

std::unique_ptr<Backend> MakeReferenceBackend() {
  return std::make_unique<ReferenceBackend>();
}

}  // namespace mneme
