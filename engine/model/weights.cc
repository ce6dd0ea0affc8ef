// SPDX-License-Identifier: Apache-2.0
#include "engine/model/weights.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/tensor/to_f32.h"

namespace mneme {
namespace {

constexpr char kOrHalf[] = " (or F16, BF16)";

// The index of the first number of `view` that is infinite or none; -1 if all
// are finite.
template <typename Bits, Bits kExponent>
int64_t FirstNotFinite(const TensorView& view) {
  const char* bytes = static_cast<const char*>(view.data);
  for (int64_t i = 0; i < view.elements(); ++i) {
    Bits bits;
    std::memcpy(&bits, bytes + i * sizeof(Bits), sizeof(Bits));
    if ((bits & kExponent) == kExponent) return i;
  }
  return -1;
}

int64_t FirstNotFinite(const TensorView& view) {
  switch (view.dtype) {
    case DType::kF16:
      return FirstNotFinite<uint16_t, 0x7c00>(view);
    case DType::kBF16:
      return FirstNotFinite<uint16_t, 0x7f80>(view);
    default:
      return FirstNotFinite<uint32_t, 0x7f800000>(view);
  }
}

}  // namespace

absl::StatusOr<Weights> Weights::Open(const std::string& directory) {
  MNEME_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(directory));
  return Weights(std::move(checkpoint));
}

bool Weights::Has(const std::string& name) const {
  return checkpoint_.tensors().count(name) != 0;
}

absl::StatusOr<TensorView> Weights::Take(const std::string& name,
                                         const Shape& shape) {
  const auto it = checkpoint_.tensors().find(name);
  if (it == checkpoint_.tensors().end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", name, "\" is missing, want F32",
                     ShapeString(shape), kOrHalf));
  }
  const TensorView& found = it->second;
  if (!WidensToF32(found.dtype) || found.shape != shape) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", name, "\" is ", std::string(DTypeName(found.dtype)),
        ShapeString(found.shape), ", want F32", ShapeString(shape), kOrHalf));
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
  CopyAsF32(view, 0, view.elements(), tensor.mutable_values().data());
  return tensor;
}

absl::StatusOr<std::unique_ptr<const Matrix>> Weights::TakeMatrix(
    const std::string& name, const Shape& shape, Preparer& backend) {
  MNEME_ASSIGN_OR_RETURN(TensorView view, Take(name, shape));
  if (shape.size() == 3 && shape[1] == 1) view.shape = {shape[0], shape[2]};
  return backend.PrepareMatrix(view);
}

absl::Status Weights::CheckAllTaken() const {
  for (const auto& [name, view] : checkpoint_.tensors()) {
    if (taken_.count(name) == 0 && ignored_.count(name) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor \"", name, "\" ", std::string(DTypeName(view.dtype)),
          ShapeString(view.shape), " has no place in this model"));
    }
  }
  return absl::OkStatus();
}

std::string Weights::Digest() const {
  Sha256 hash;
  for (const std::string& name : taken_) {
    const TensorView& view = checkpoint_.tensors().at(name);
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
  for (const std::string& name : taken_) {
    count += checkpoint_.tensors().at(name).elements();
  }
  return count;
}

}  // namespace mneme
