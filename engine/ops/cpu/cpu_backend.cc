// SPDX-License-Identifier: Apache-2.0
//
// Splits every operation over the workers. The pieces are fixed: whole rows,
// whole heads, or panels of weight rows of one width. So which worker takes a
// piece, and how many workers there are, can not change a bit of the result.
#include "engine/ops/cpu/cpu_backend.h"

#include <dnnl.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/check.h"
#include "engine/base/thread_pool.h"
#include "engine/ops/cpu/attention.h"
#include "engine/ops/cpu/block_product.h"
#include "engine/ops/cpu/delta.h"
#include "engine/ops/cpu/infini.h"
#include "engine/ops/cpu/row_kernels.h"
#include "engine/ops/cpu/ttt.h"
#include "engine/tensor/to_f32.h"

namespace mneme {
namespace {

// Weight rows per piece of a product. Block: wide enough that oneDNN's copy
// of the left operand is small beside the product, narrow enough that a layer
// has pieces for many workers. Step: about 100 KB of weights.
constexpr int64_t kBlockPanel = 128;
constexpr int64_t kStepPanel = 32;

// Below this many multiplications, waking workers costs more than it saves.
constexpr int64_t kSerialWork = 1 << 14;

// Rows per piece of an operation that treats each row alone.
constexpr int64_t kRowsPerPiece = 4;

struct CpuMatrix final : Matrix {
  CpuMatrix(int64_t out_rows, int64_t in_cols)
      : Matrix(out_rows, in_cols, out_rows * PaddedStride(in_cols) * 4),
        stride(PaddedStride(in_cols)),
        buffer(bytes(), Pages::kHuge) {}

  const float* row(int64_t i) const {
    return reinterpret_cast<const float*>(buffer.data()) + i * stride;
  }

  const int64_t stride;
  AlignedBuffer buffer;           // [out, stride], zeros behind column `in`
  BlockProduct* panel = nullptr;  // for kBlockPanel rows; null if fewer
  BlockProduct* rest = nullptr;   // for the rows behind the last whole panel
};

Rows Slice(Rows rows, int64_t first, int64_t count) {
  return {rows.row(first), count, rows.cols, rows.stride};
}
ConstRows Slice(ConstRows rows, int64_t first, int64_t count) {
  return {rows.row(first), count, rows.cols, rows.stride};
}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(int threads) : pool_(threads), scratch_(threads) {}

  std::string_view name() const override { return "cpu"; }

  std::string arithmetic_level() const override {
    const dnnl_version_t* dnnl = dnnl_version();
    return absl::StrCat(cpu::TargetName(), " onednn-", dnnl->major, ".",
                        dnnl->minor, ".", dnnl->patch);
  }

  absl::StatusOr<std::unique_ptr<const Matrix>> PrepareMatrix(
      const TensorView& weight) override {
    auto matrix = std::make_unique<CpuMatrix>(weight.shape[0], weight.shape[1]);
    if (!matrix->buffer) {
      return absl::ResourceExhaustedError(
          absl::StrCat("weight ", ShapeString(weight.shape),
                       ": the machine refused ", matrix->bytes(), " bytes"));
    }
    const int64_t row_bytes = matrix->in() * 4;
    const int64_t stride_bytes = matrix->stride * 4;
    pool_.ParallelFor(matrix->out(), [&](int64_t i, int) {
      char* row = matrix->buffer.data() + i * stride_bytes;
      CopyAsF32(weight, i * matrix->in(), matrix->in(),
                reinterpret_cast<float*>(row));
      std::memset(row + row_bytes, 0, stride_bytes - row_bytes);
    });
    const int64_t rest = matrix->out() % kBlockPanel;
    if (matrix->out() >= kBlockPanel) {
      absl::StatusOr<BlockProduct*> product = Product(kBlockPanel, *matrix);
      if (!product.ok()) return product.status();
      matrix->panel = *product;
    }
    if (rest > 0) {
      absl::StatusOr<BlockProduct*> product = Product(rest, *matrix);
      if (!product.ok()) return product.status();
      matrix->rest = *product;
    }
    return matrix;
  }

  absl::Status Reserve(const MixerParams& params, int64_t rows) override {
    const int64_t bytes =
        4 * std::visit(
                [rows](const auto& p) { return cpu::ScratchFloats(p, rows); },
                params);
    if (scratch_[0] && scratch_[0].bytes() >= bytes) return absl::OkStatus();
    // What models that are served compute with goes only when all is there.
    std::vector<AlignedBuffer> larger;
    for (size_t worker = 0; worker < scratch_.size(); ++worker) {
      larger.emplace_back(bytes);
      if (!larger.back()) {
        return absl::ResourceExhaustedError(absl::StrCat(
            "mixer scratch: the machine refused ", bytes, " bytes"));
      }
    }
    scratch_ = std::move(larger);
    return absl::OkStatus();
  }

  absl::Status Multiply(const Matrix& weight, ConstRows x, Rows y) override {
    Matmul(ComputePath::kStep, weight, x, y);
    return Finish();
  }

  void Matmul(ComputePath path, const Matrix& weight, ConstRows x,
              Rows y) override {
    const auto& matrix = static_cast<const CpuMatrix&>(weight);
    if (path == ComputePath::kStep) {
      StepProduct(matrix, x, y);
    } else {
      BlockProductPanels(matrix, x, y);
    }
  }

  void GatherRows(const Matrix& table, absl::Span<const int32_t> ids,
                  float scale, Rows y) override {
    const auto& matrix = static_cast<const CpuMatrix&>(table);
    for (size_t i = 0; i < ids.size(); ++i) {
      MNEME_DCHECK(ids[i] >= 0 && ids[i] < matrix.out());
      const float* row = matrix.row(ids[i]);
      std::transform(row, row + matrix.in(), y.row(static_cast<int64_t>(i)),
                     [scale](float value) { return scale * value; });
    }
  }

  void RmsNorm(ConstRows x, absl::Span<const float> weight, float eps,
               Rows y) override {
    ForRows(x.rows, x.cols, [&](int64_t first, int64_t count) {
      cpu::RmsNormRows(Slice(x, first, count), weight.data(), eps,
                       Slice(y, first, count));
    });
  }

  void Accumulate(ConstRows x, Rows y) override {
    ForRows(x.rows, x.cols, [&](int64_t first, int64_t count) {
      cpu::AccumulateRows(Slice(x, first, count), Slice(y, first, count));
    });
  }

  void LayerNorm(ConstRows x, absl::Span<const float> weight,
                 absl::Span<const float> bias, float eps, Rows y) override {
    ForRows(x.rows, x.cols, [&](int64_t first, int64_t count) {
      cpu::LayerNormRows(Slice(x, first, count), weight.data(), bias.data(),
                         eps, Slice(y, first, count));
    });
  }

  void Activate(Activation activation, ConstRows up, Rows gate) override {
    ForRows(gate.rows, gate.cols, [&](int64_t first, int64_t count) {
      cpu::ActivateRows(activation,
                        up.data == nullptr ? up : Slice(up, first, count),
                        Slice(gate, first, count));
    });
  }

  void ScaledSigmoid(absl::Span<const float> bias, float scale,
                     Rows x) override {
    ForRows(x.rows, x.cols, [&](int64_t first, int64_t count) {
      cpu::ScaledSigmoidRows(bias.data(), scale, Slice(x, first, count));
    });
  }

  void ScaledHardSigmoid(absl::Span<const float> bias, float stretch,
                         float scale, Rows x) override {
    ForRows(x.rows, x.cols, [&](int64_t first, int64_t count) {
      cpu::ScaledHardSigmoidRows(bias.data(), stretch, scale,
                                 Slice(x, first, count));
    });
  }

  void NormaliseHeads(int64_t head_dim, float eps, Rows x) override {
    ForRows(x.rows, x.cols, [&](int64_t first, int64_t count) {
      cpu::NormaliseHeadsRows(head_dim, eps, Slice(x, first, count));
    });
  }

  void CausalConv(const CausalConvParams& params, ConstRows x,
                  absl::Span<const CausalConvSlice> slices, Rows y) override {
    const int64_t history = params.taps - 1;
    for (const CausalConvSlice& slice : slices) {
      ForRows(slice.rows, x.cols, [&](int64_t first, int64_t count) {
        for (int64_t i = first; i < first + count; ++i) {
          cpu::CausalConvRow(params, slice, i, x, y);
        }
      });
      if (slice.next_window == nullptr) continue;
      for (int64_t j = 0; j < history; ++j) {
        const int64_t t = slice.rows - history + j;
        std::copy_n(t < 0 ? slice.window + (history + t) * x.cols
                          : x.row(slice.first_row + t),
                    x.cols, slice.next_window + j * x.cols);
      }
    }
  }

  void Ttt(ComputePath path, const TttParams& params, const TttInputs& inputs,
           absl::Span<const TttSlice> slices, Rows out) override {
    const int64_t pieces = static_cast<int64_t>(slices.size()) * params.heads;
    const int64_t work = inputs.q.rows * params.heads * params.weight_floats();
    auto piece = [&](int64_t i, int worker) {
      cpu::TttHead(path, params, inputs, slices[i / params.heads],
                   i % params.heads, scratch(worker), out);
    };
    Split(pieces, work, piece);
  }

  void Delta(const DeltaParams& params, const DeltaInputs& inputs,
             absl::Span<DeltaSlice> slices, Rows out) override {
    for (DeltaSlice& slice : slices) {
      slice.wrote = cpu::DeltaWrites(inputs, slice);
    }
    const int64_t pieces = static_cast<int64_t>(slices.size()) * params.heads;
    const int64_t work = inputs.q.rows * params.heads * params.weight_floats();
    Split(pieces, work, [&](int64_t i, int worker) {
      cpu::DeltaHead(params, inputs, slices[i / params.heads], i % params.heads,
                     scratch(worker), out);
    });
  }

  void Infini(ComputePath path, const InfiniParams& params,
              const InfiniInputs& inputs, absl::Span<const InfiniSlice> slices,
              Rows out) override {
    const int64_t pieces =
        static_cast<int64_t>(slices.size()) * params.kv_heads;
    const int64_t work = inputs.q.rows * params.heads *
                         (params.segment + params.head_dim) * params.head_dim;
    Split(pieces, work, [&](int64_t i, int worker) {
      cpu::InfiniHead(path, params, inputs, slices[i / params.kv_heads],
                      i % params.kv_heads, scratch(worker), out);
    });
  }

  void Attention(ComputePath path, const AttentionParams& params,
                 const AttentionInputs& inputs,
                 absl::Span<const AttentionSlice> slices, Rows out) override {
    const int64_t pieces =
        static_cast<int64_t>(slices.size()) * params.kv_heads;
    const int64_t work =
        inputs.q.rows * params.heads * (params.kept + 1) * params.head_dim;
    Split(pieces, work, [&](int64_t i, int worker) {
      cpu::AttentionHead(path, params, inputs, slices[i / params.kv_heads],
                         i % params.kv_heads, scratch(worker), out);
    });
  }

  void Rotate(RotationPairs pairs, ConstRows cosines, ConstRows sines,
              int64_t head_dim, Rows x) override {
    ForRows(x.rows, x.cols, [&](int64_t first, int64_t count) {
      cpu::RotateRows(pairs, Slice(cosines, first, count),
                      Slice(sines, first, count), head_dim,
                      Slice(x, first, count));
    });
  }

  void AddBias(absl::Span<const float> bias, Rows x) override {
    ForRows(x.rows, x.cols, [&](int64_t first, int64_t count) {
      cpu::AddBiasRows(bias.data(), Slice(x, first, count));
    });
  }

  void AdaptiveLogSoftmax(absl::Span<const int64_t> ends, ConstRows clusters,
                          Rows logits) override {
    ForRows(logits.rows, logits.cols, [&](int64_t first, int64_t count) {
      cpu::AdaptiveLogSoftmaxRows(
          ends,
          clusters.data == nullptr ? clusters : Slice(clusters, first, count),
          Slice(logits, first, count));
    });
  }

  void CloseInfiniSegment(const InfiniParams& params,
                          const InfiniSlice& slice) override {
    const int64_t work =
        slice.slot * params.kv_heads * params.head_dim * params.head_dim;
    Split(params.kv_heads, work, [&](int64_t i, int worker) {
      cpu::CloseInfiniHead(params, slice, i, scratch(worker));
    });
  }

  absl::Status Finish() override {
    absl::MutexLock lock(&mutex_);
    return std::exchange(failure_, absl::OkStatus());
  }

 private:
  float* scratch(int worker) {
    return reinterpret_cast<float*>(scratch_[worker].data());
  }

  // The product with `out` rows of a matrix like `matrix`; one per shape.
  absl::StatusOr<BlockProduct*> Product(int64_t out, const CpuMatrix& matrix) {
    // Activations have padded strides, as Workspace::Matrix makes them.
    const std::vector<int64_t> key = {out, matrix.in(), matrix.out()};
    std::unique_ptr<BlockProduct>& product = products_[key];
    if (product == nullptr) {
      absl::StatusOr<std::unique_ptr<BlockProduct>> made =
          BlockProduct::Make({.out = out,
                              .in = matrix.in(),
                              .a_stride = PaddedStride(matrix.in()),
                              .b_stride = matrix.stride,
                              .c_stride = PaddedStride(matrix.out()),
                              .workers = pool_.threads()});
      if (!made.ok()) return made.status();
      product = *std::move(made);
    }
    return product.get();
  }

  void StepProduct(const CpuMatrix& matrix, ConstRows x, Rows y) {
    const int64_t panels = (matrix.out() + kStepPanel - 1) / kStepPanel;
    auto piece = [&](int64_t panel, int) {
      const int64_t first = panel * kStepPanel;
      const int64_t outs = std::min(kStepPanel, matrix.out() - first);
      cpu::DotRows(matrix.row(first), matrix.stride, outs, x,
                   Rows{y.data + first, y.rows, outs, y.stride});
    };
    Split(panels, x.rows * matrix.out() * matrix.in(), piece);
  }

  void BlockProductPanels(const CpuMatrix& matrix, ConstRows x, Rows y) {
    MNEME_DCHECK(x.stride == PaddedStride(matrix.in()));
    MNEME_DCHECK(y.stride == PaddedStride(matrix.out()));
    const int64_t panels = (matrix.out() + kBlockPanel - 1) / kBlockPanel;
    const int64_t groups = (x.rows + kBlockRows - 1) / kBlockRows;
    auto piece = [&](int64_t i, int worker) {
      const int64_t group = i / panels;
      const int64_t first = i % panels * kBlockPanel;
      BlockProduct* product =
          matrix.out() - first >= kBlockPanel ? matrix.panel : matrix.rest;
      const absl::Status status =
          product->Run(x.row(group * kBlockRows), matrix.row(first),
                       y.row(group * kBlockRows) + first, worker);
      if (!status.ok()) {
        absl::MutexLock lock(&mutex_);
        failure_.Update(status);
      }
    };
    Split(groups * panels, groups * kBlockRows * matrix.out() * matrix.in(),
          piece);
  }

  template <class Task>
  void ForRows(int64_t rows, int64_t cols, const Task& task) {
    const int64_t pieces = (rows + kRowsPerPiece - 1) / kRowsPerPiece;
    auto piece = [&](int64_t i, int) {
      const int64_t first = i * kRowsPerPiece;
      task(first, std::min(kRowsPerPiece, rows - first));
    };
    Split(pieces, rows * cols, piece);
  }

  template <class Piece>
  void Split(int64_t pieces, int64_t work, const Piece& piece) {
    if (work <= kSerialWork) {
      pool_.SerialFor(pieces, piece);
    } else {
      pool_.ParallelFor(pieces, piece);
    }
  }

  ThreadPool pool_;
  std::vector<AlignedBuffer> scratch_;  // one per worker
  absl::flat_hash_map<std::vector<int64_t>, std::unique_ptr<BlockProduct>>
      products_;  // by {out rows, in, out of the whole matrix}
  absl::Mutex mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(int threads) {
  return std::make_unique<CpuBackend>(threads);
}

}  // namespace mneme
