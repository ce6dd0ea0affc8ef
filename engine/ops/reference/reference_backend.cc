// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/reference/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/ops/reference/attention.h"
#include "engine/ops/reference/delta.h"
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

void LogSoftmax(std::vector<double>& x) {
  const double highest = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (const double value : x) sum += std::exp(value - highest);
  for (double& value : x) value -= highest + std::log(sum);
}

double Activated(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x * Sigmoid(x);
    case Activation::kSigmoid:
      return Sigmoid(x);
    case Activation::kGeluTanh:
      return reference::GeluTanh(x);
    case Activation::kGeluErf:
      return x / 2 * std::erfc(-x / std::sqrt(2.0));
    case Activation::kRelu:
      return std::max(x, 0.0);
  }
  return 0;
}

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
  absl::Status Multiply(const Matrix& weight, ConstRows x, Rows y) override {
    Matmul(ComputePath::kStep, weight, x, y);
    return Finish();
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
                  float scale, Rows y) override {
    const auto& t = static_cast<const ReferenceMatrix&>(table);
    for (size_t row = 0; row < ids.size(); ++row) {
      for (int64_t i = 0; i < t.in(); ++i) {
        y.row(static_cast<int64_t>(row))[i] =
            scale * t.values[ids[row] * t.in() + i];
      }
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

  void LayerNorm(ConstRows x, absl::Span<const float> weight,
                 absl::Span<const float> bias, float eps, Rows y) override {
    const double cols = static_cast<double>(x.cols);
    for (int64_t row = 0; row < x.rows; ++row) {
      const float* values = x.row(row);
      double mean = 0;
      for (int64_t c = 0; c < x.cols; ++c) mean += values[c] / cols;
      double variance = 0;
      for (int64_t c = 0; c < x.cols; ++c) {
        variance += (values[c] - mean) * (values[c] - mean) / cols;
      }
      const double deviation = std::sqrt(variance + eps);
      for (int64_t c = 0; c < x.cols; ++c) {
        y.row(row)[c] = static_cast<float>(
            weight[c] * ((values[c] - mean) / deviation) + bias[c]);
      }
    }
  }

  void Activate(Activation activation, ConstRows up, Rows gate) override {
    for (int64_t row = 0; row < gate.rows; ++row) {
      for (int64_t c = 0; c < gate.cols; ++c) {
        const double y = Activated(activation, gate.row(row)[c]);
        gate.row(row)[c] =
            static_cast<float>(up.data == nullptr ? y : y * up.row(row)[c]);
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

  void ScaledHardSigmoid(absl::Span<const float> bias, float stretch,
                         float scale, Rows x) override {
    for (int64_t row = 0; row < x.rows; ++row) {
      for (int64_t c = 0; c < x.cols; ++c) {
        const double open = stretch * Sigmoid(double{x.row(row)[c]} + bias[c]) -
                            (double{stretch} - 1) / 2;
        x.row(row)[c] = static_cast<float>(scale * std::clamp(open, 0.0, 1.0));
      }
    }
  }

  void NormaliseHeads(int64_t head_dim, float eps, Rows x) override {
    for (int64_t row = 0; row < x.rows; ++row) {
      for (int64_t first = 0; first < x.cols; first += head_dim) {
        float* const head = x.row(row) + first;
        double squares = eps;
        for (int64_t i = 0; i < head_dim; ++i) {
          squares += double{head[i]} * head[i];
        }
        for (int64_t i = 0; i < head_dim; ++i) {
          head[i] = static_cast<float>(head[i] / std::sqrt(squares));
        }
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

  void Delta(const DeltaParams& params, const DeltaInputs& inputs,
             absl::Span<DeltaSlice> slices, Rows out) override {
    for (DeltaSlice& slice : slices) {
      reference::DeltaSliceByToken(params, inputs, slice, out);
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

  void AdaptiveLogSoftmax(absl::Span<const int64_t> ends, ConstRows clusters,
                          Rows logits) override {
    for (int64_t row = 0; row < logits.rows; ++row) {
      float* values = logits.row(row);
      std::vector<double> head(values, values + ends[0]);
      if (ends.size() > 1) {
        const float* of_bands = clusters.row(row);
        head.insert(head.end(), of_bands, of_bands + ends.size() - 1);
      }
      LogSoftmax(head);
      std::copy_n(head.begin(), ends[0], values);
      for (size_t band = 1; band < ends.size(); ++band) {
        std::vector<double> tail(values + ends[band - 1], values + ends[band]);
        LogSoftmax(tail);
        for (size_t i = 0; i < tail.size(); ++i) {
          values[ends[band - 1] + static_cast<int64_t>(i)] =
              static_cast<float>(tail[i] + head[ends[0] + band - 1]);
        }
      }
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
