// SPDX-License-Identifier: Apache-2.0
#include "engine/model/weights.h"

#include <cstring>
#include <utility>
#include <vector>

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

Weights Weights::Creating(Create create) {
  Weights weights{Checkpoint()};
  weights.create_ = std::move(create);
  return weights;
}

bool Weights::Has(const std::string& name) const {
  return checkpoint_.tensors().count(name) != 0;
}

TensorSource Weights::SourceOf(const std::string& name) const {
  return source_of_ ? source_of_(name) : TensorSource{.name = name};
}

absl::StatusOr<TensorView> Weights::Check(const std::string& name,
                                          const Shape& shape) {
  if (create_) {
    const auto it = created_.find(name);
    const Tensor& tensor =
        it != created_.end()
            ? it->second
            : created_.emplace(name, create_(name, shape)).first->second;
    return TensorView{
        .data = tensor.data(), .dtype = DType::kF32, .shape = tensor.shape()};
  }
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
  return found;
}

absl::StatusOr<TensorView> Weights::Take(const std::string& name,
                                         const Shape& shape) {
  MNEME_ASSIGN_OR_RETURN(const TensorView view, Check(name, shape));
  taken_.insert(name);
  return view;
}

absl::StatusOr<Tensor> Weights::TakeParts(const TensorSource& source,
                                          const Shape& shape) {
  const int64_t rows = source.all_rows > 0 ? source.all_rows : shape[0];
  Shape whole = shape;
  whole[0] = rows;
  if (source.transposed) std::swap(whole[0], whole[1]);
  MNEME_ASSIGN_OR_RETURN(const TensorView view, Take(source.name, whole));
  Tensor tensor(shape);
  const int64_t cols = tensor.values().size() / shape[0];
  std::vector<float> widened(view.elements());
  CopyAsF32(view, 0, view.elements(), widened.data());
  float* to = tensor.mutable_values().data();
  for (int64_t row = 0; row < shape[0]; ++row) {
    const int64_t from =
        source.all_rows > 0
            ? source.first + row / source.run * source.period + row % source.run
            : row;
    for (int64_t col = 0; col < cols; ++col) {
      *to++ = source.transposed ? widened[col * rows + from]
                                : widened[from * cols + col];
    }
  }
  return tensor;
}

absl::StatusOr<Tensor> Weights::TakeTensor(const std::string& name,
                                           const Shape& shape) {
  const TensorSource source = SourceOf(name);
  if (!source.as_is()) {
    return TakeParts(source, shape);
  }
  MNEME_ASSIGN_OR_RETURN(const TensorView view, Take(source.name, shape));
  Tensor tensor(shape);
  CopyAsF32(view, 0, view.elements(), tensor.mutable_values().data());
  return tensor;
}

absl::StatusOr<std::unique_ptr<const Matrix>> Weights::TakeMatrix(
    const std::string& name, const Shape& shape, Preparer& backend) {
  const TensorSource source = SourceOf(name);
  if (!source.as_is()) {
    MNEME_ASSIGN_OR_RETURN(const Tensor tensor, TakeParts(source, shape));
    return backend.PrepareMatrix(
        {.data = tensor.data(), .dtype = DType::kF32, .shape = tensor.shape()});
  }
  MNEME_ASSIGN_OR_RETURN(TensorView view, Take(source.name, shape));
  if (shape.size() == 3 && shape[1] == 1) view.shape = {shape[0], shape[2]};
  return backend.PrepareMatrix(view);
}

absl::Status Weights::IgnoreCopy(const std::string& name,
                                 const std::string& original,
                                 const Shape& shape,
                                 const std::string& because) {
  if (!Has(name)) return absl::OkStatus();
  MNEME_ASSIGN_OR_RETURN(const TensorView copy, Check(name, shape));
  const std::string original_name = SourceOf(original).name;
  MNEME_ASSIGN_OR_RETURN(const TensorView view, Check(original_name, shape));
  std::vector<float> copy_row(shape[1]), row(shape[1]);
  for (int64_t i = 0; i < shape[0]; ++i) {
    CopyAsF32(copy, i * shape[1], shape[1], copy_row.data());
    CopyAsF32(view, i * shape[1], shape[1], row.data());
    if (copy_row != row) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor \"", name, "\" differs from \"", original_name,
                       "\" in row ", i, ", want the same: ", because));
    }
  }
  Ignore(name);
  return absl::OkStatus();
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
    const auto it = checkpoint_.tensors().find(name);
    if (it != checkpoint_.tensors().end()) count += it->second.elements();
  }
  return count;
}

}  // namespace mneme
