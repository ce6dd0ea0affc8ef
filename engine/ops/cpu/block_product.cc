// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/block_product.h"

#include <dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/ops/backend.h"

namespace mneme {
namespace {

absl::Status FromDnnl(const dnnl::error& error) {
  return absl::InternalError(absl::StrCat("oneDNN matmul: ", error.what(),
                                          " (status ",
                                          static_cast<int>(error.status), ")"));
}

class DnnlBlockProduct final : public BlockProduct {
 public:
  // Throws dnnl::error.
  explicit DnnlBlockProduct(const Sizes& sizes)
      : engine_(dnnl::engine::kind::cpu, 0) {
    using dnnl::memory;
    const memory::data_type f32 = memory::data_type::f32;
    const memory::desc a({kBlockRows, sizes.in}, f32, {sizes.a_stride, 1});
    const memory::desc b({sizes.in, sizes.out}, f32, {1, sizes.b_stride});
    const memory::desc c({kBlockRows, sizes.out}, f32, {sizes.c_stride, 1});
    // The library's own scratchpad belongs to one thread at a time.
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c),
                                                   attributes, engine_);
    primitive_ = dnnl::matmul(description);
    for (int worker = 0; worker < sizes.workers; ++worker) {
      memory a_memory(a, engine_, nullptr);
      memory b_memory(b, engine_, nullptr);
      memory c_memory(c, engine_, nullptr);
      workers_.push_back(
          {.stream = dnnl::stream(engine_),
           .a = a_memory,
           .b = b_memory,
           .c = c_memory,
           .arguments = {{DNNL_ARG_SRC, a_memory},
                         {DNNL_ARG_WEIGHTS, b_memory},
                         {DNNL_ARG_DST, c_memory},
                         {DNNL_ARG_SCRATCHPAD,
                          memory(description.scratchpad_desc(), engine_)}}});
    }
  }

  absl::Status Run(const float* a, const float* b, float* c,
                   int worker) override {
    Worker& w = workers_[worker];
    try {
      // oneDNN only reads its sources, though its handles are not const.
      w.a.set_data_handle(const_cast<float*>(a));
      w.b.set_data_handle(const_cast<float*>(b));
      w.c.set_data_handle(c);
      primitive_.execute(w.stream, w.arguments);
      w.stream.wait();
    } catch (const dnnl::error& error) {
      return FromDnnl(error);
    }
    return absl::OkStatus();
  }

 private:
  struct Worker {
    dnnl::stream stream;
    dnnl::memory a, b, c;
    std::unordered_map<int, dnnl::memory> arguments;  // handles to a, b, c
  };

  dnnl::engine engine_;
  dnnl::matmul primitive_;
  std::vector<Worker> workers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlockProduct>> BlockProduct::Make(
    const Sizes& sizes) {
  try {
    return std::make_unique<DnnlBlockProduct>(sizes);
  } catch (const dnnl::error& error) {
    return FromDnnl(error);
  }
}

}  // namespace mneme
