// SPDX-License-Identifier: Apache-2.0
#include "engine/model/weights.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"

namespace mneme {
namespace {

// The index of the first f32 of `view` that is infinite or no number; -1 if
// all are finite.
int64_t FirstNotFinite(const TensorView& view) {
  constexpr uint32_t kExponent = 0x7f800000;
  const char* bytes = static_cast<const char*>(view.data);
  for (int64_t i = 0; i < view.elements(); ++i) {
    uint32_t bits;
    std::memcpy(&bits, bytes + i * 4, 4);
    if ((bits & kExponent) == kExponent) return i;
  }
  return -1;
}

}  // namespace

absl::StatusOr<Weights> Weights::Open(const std::string& directory) {
  MNEME_ASSIGN_OR_RETURN(
      std::unique_ptr<SafetensorsFile> file,
      SafetensorsFile::Open(directory + "/model.safetensors"));
  return Weights(std::move(file));
}

bool Weights::Has(const std::string& name) const {
  return file_->tensors().count(name) != 0;
}

absl::StatusOr<TensorView> Weights::Take(const std::string& name,
                                         const Shape& shape) {
  const auto it = file_->tensors().find(name);
  if (it == file_->tensors().end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", name, "\" is missing, want F32", ShapeString(shape)));
  }
  const TensorView& found = it->second;
  if (found.dtype != DType::kF32 || found.shape != shape) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", name, "\" is ", std::string(DTypeName(found.dtype)),
        ShapeString(found.shape), ", want F32", ShapeString(shape)));
  }
  const int64_t bad = FirstNotFinite(found);
  if (bad >= 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", name, "\": element ", bad, " is not a finite number"));
  }
  taken_.insert(name);
  return found;
}

absl::StatusOr<Tensor> Weights::TakeTensor(const std::string& name,
                                           const Shape& shape) {
  MNEME_ASSIGN_OR_RETURN(const TensorView view, Take(name, shape));
  Tensor tensor(shape);
  std::memcpy(tensor.mutable_values().data(), view.data, view.bytes());
  return tensor;
}

absl::StatusOr<std::unique_ptr<const Matrix>> Weights::TakeMatrix(
    const std::string& name, const Shape& shape, Backend& backend) {
  MNEME_ASSIGN_OR_RETURN(TensorView view, Take(name, shape));
  if (shape.size() == 3 && shape[1] == 1) view.shape = {shape[0], shape[2]};
  return backend.PrepareMatrix(view);
}

absl::Status Weights::CheckAllTaken() const {
  for (const auto& [name, view] : file_->tensors()) {
    if (taken_.count(name) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor \"", name, "\" ", std::string(DTypeName(view.dtype)),
          ShapeString(view.shape), " has no place in this model"));
    }
  }
  return absl::OkStatus();
}

std::string Weights::Digest() const {
  Sha256 hash;
  for (const auto& [name, view] : file_->tensors()) {
    hash.UpdateInt64(static_cast<int64_t>(name.size()));
    hash.Update(name);
    hash.Update(DTypeName(view.dtype));
    hash.Update(ShapeString(view.shape));
    hash.Update(std::string_view(static_cast<const char*>(view.data),
                                 static_cast<size_t>(view.bytes())));
  }
  return hash.HexDigest();
}

int64_t Weights::elements() const {
  int64_t count = 0;
  for (const auto& [name, view] : file_->tensors()) count += view.elements();
  return count;
}

}  // namespace mneme
