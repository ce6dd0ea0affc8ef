// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_SAFETENSORS_H_
#define MNEME_ENGINE_MODEL_SAFETENSORS_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/tensor/tensor.h"

namespace mneme {

// Tensors by name, in name order.
using TensorMap = std::map<std::string, TensorView>;

// Reads the header of a safetensors file that lies in memory: 8 bytes of
// little-endian length, that many bytes of JSON, then the tensors' bytes.
// Every number is checked before it is used: dtypes, shapes, and that the
// tensors cover the bytes behind the header exactly, none twice.
// INVALID_ARGUMENT naming the tensor, the found and the wanted. The views
// point into `file`.
absl::StatusOr<TensorMap> ParseSafetensors(absl::Span<const char> file);

// A safetensors file, mapped read-only.
class SafetensorsFile {
 public:
  // NOT_FOUND if there is no such file; else as ParseSafetensors, with the
  // path in front.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(
      const std::string& path);

  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;
  ~SafetensorsFile();

  // Alive as long as this object.
  const TensorMap& tensors() const { return tensors_; }

 private:
  SafetensorsFile(void* data, size_t bytes) : data_(data), bytes_(bytes) {}

  void* const data_;
  const size_t bytes_;
  TensorMap tensors_;
};

// A tensor to be written; the bytes stay the caller's.
struct NamedTensor {
  std::string name;
  TensorView view;
};

// Writes `tensors` as a new file, replacing one of that name only when all is
// written. UNAVAILABLE naming the path if the file system refuses.
absl::Status WriteSafetensors(const std::string& path,
                              absl::Span<const NamedTensor> tensors);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_SAFETENSORS_H_
