// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_CPU_BLOCK_PRODUCT_H_
#define MNEME_ENGINE_OPS_CPU_BLOCK_PRODUCT_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mneme {

// C [64, out] = A [64, in] Bᵀ, with B [out, in], by oneDNN on the calling
// thread. One object serves one shape; its primitive is made once, and its
// arguments once per worker, so that a product allocates nothing.
class BlockProduct {
 public:
  struct Sizes {
    int64_t out = 0;
    int64_t in = 0;
    int64_t a_stride = 0;
    int64_t b_stride = 0;
    int64_t c_stride = 0;
    int workers = 1;
  };

  // INTERNAL with oneDNN's words if it refuses the shape.
  static absl::StatusOr<std::unique_ptr<BlockProduct>> Make(const Sizes& sizes);

  virtual ~BlockProduct() = default;

  // Workers may call this at the same time, each with its own number.
  // INTERNAL with oneDNN's words if it fails.
  virtual absl::Status Run(const float* a, const float* b, float* c,
                           int worker) = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_OPS_CPU_BLOCK_PRODUCT_H_
