// SPDX-License-Identifier: Apache-2.0
#include "engine/model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "engine/base/coding.h"
#include "engine/base/json_text.h"
#include "engine/base/status_macros.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr int64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as the format says

absl::Status Bad(const std::string& tensor, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("tensor \"", tensor, "\": ", what));
}

// A non-negative JSON integer that fits int64.
absl::StatusOr<int64_t> Count(const std::string& tensor, const char* key,
                              const json& value) {
  if (!value.is_number_unsigned() ||
      value.get<uint64_t>() >
          static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return Bad(tensor, absl::StrCat(key, " holds ", ShowJson(value),
                                    ", want an integer >= 0"));
  }
  return value.get<int64_t>();
}

struct Extent {
  int64_t begin = 0;
  int64_t end = 0;
  const std::string* tensor = nullptr;
};

// The bytes of one header entry; fills in all of `view` but its data.
absl::StatusOr<Extent> ParseEntry(const std::string& name, const json& entry,
                                  int64_t data_bytes, TensorView& view) {
  if (!entry.is_object()) return Bad(name, "its entry is not an object");
  for (const auto& item : entry.items()) {
    if (item.key() != "dtype" && item.key() != "shape" &&
        item.key() != "data_offsets") {
      return Bad(name, absl::StrCat("unknown key \"", item.key(), "\""));
    }
  }
  const auto dtype = entry.find("dtype");
  if (dtype == entry.end() || !dtype->is_string()) {
    return Bad(name, "no dtype");
  }
  absl::StatusOr<DType> parsed =
      ParseDType(dtype->get_ref<const std::string&>());
  if (!parsed.ok()) return Bad(name, std::string(parsed.status().message()));
  view.dtype = *parsed;

  const auto shape = entry.find("shape");
  if (shape == entry.end() || !shape->is_array() || shape->size() > 8) {
    return Bad(name, "no shape of at most 8 dimensions");
  }
  int64_t bytes = DTypeBytes(view.dtype);
  for (const json& dim : *shape) {
    MNEME_ASSIGN_OR_RETURN(const int64_t size, Count(name, "shape", dim));
    if (__builtin_mul_overflow(bytes, size, &bytes)) {
      return Bad(name, "its shape is larger than any file");
    }
    view.shape.push_back(size);
  }

  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2) {
    return Bad(name, "no data_offsets of two numbers");
  }
  Extent extent{.tensor = &name};
  MNEME_ASSIGN_OR_RETURN(extent.begin,
                         Count(name, "data_offsets", (*offsets)[0]));
  MNEME_ASSIGN_OR_RETURN(extent.end,
                         Count(name, "data_offsets", (*offsets)[1]));
  if (extent.begin > extent.end || extent.end > data_bytes) {
    return Bad(
        name, absl::StrCat("data_offsets [", extent.begin, ",", extent.end,
                           "], the file holds ", data_bytes, " bytes of data"));
  }
  if (extent.end - extent.begin != bytes) {
    return Bad(name,
               absl::StrCat("data_offsets span ", extent.end - extent.begin,
                            " bytes, ", std::string(DTypeName(view.dtype)),
                            ShapeString(view.shape), " wants ", bytes));
  }
  return extent;
}

std::string FileError(const char* what, const std::string& path) {
  return absl::StrCat(what, " ", path, ": ", std::strerror(errno));
}

}  // namespace

absl::StatusOr<TensorMap> ParseSafetensors(absl::Span<const char> file) {
  if (file.size() < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "not a safetensors file: ", file.size(), " bytes, want at least 8"));
  }
  const uint64_t header_bytes = DecodeFixed64(file.data());
  if (header_bytes > kMaxHeaderBytes ||
      header_bytes > file.size() - kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "not a safetensors file: its header claims ", header_bytes, " of ",
        file.size() - kLengthBytes, " bytes, at most ", kMaxHeaderBytes));
  }
  const char* header_begin = file.data() + kLengthBytes;
  const char* data = header_begin + header_bytes;
  const int64_t data_bytes =
      static_cast<int64_t>(file.size() - kLengthBytes - header_bytes);
  MNEME_ASSIGN_OR_RETURN(
      const json header,
      ParseJsonObject(std::string_view(header_begin, header_bytes),
                      "not a safetensors file: its header"));

  TensorMap tensors;
  std::vector<Extent> extents;
  for (const auto& item : header.items()) {
    if (item.key() == "__metadata__") continue;
    const auto placed = tensors.emplace(item.key(), TensorView()).first;
    MNEME_ASSIGN_OR_RETURN(
        const Extent extent,
        ParseEntry(placed->first, item.value(), data_bytes, placed->second));
    placed->second.data = data + extent.begin;
    extents.push_back(extent);
  }
  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) {
              return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
            });
  int64_t covered = 0;
  for (const Extent& extent : extents) {
    if (extent.begin != covered) {
      return Bad(*extent.tensor, absl::StrCat("begins at byte ", extent.begin,
                                              ", want ", covered));
    }
    covered = extent.end;
  }
  if (covered != data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensors cover ", covered, " of ", data_bytes, " bytes of data"));
  }
  return tensors;
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(
    const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const std::string message = FileError("cannot open", path);
    return errno == ENOENT ? absl::NotFoundError(message)
                           : absl::UnavailableError(message);
  }
  struct stat info = {};
  void* data = MAP_FAILED;
  if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0) {
    data = mmap(nullptr, info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  }
  close(fd);
  if (data == MAP_FAILED) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": cannot be mapped; want a file of some bytes"));
  }
  auto file = absl::WrapUnique(
      new SafetensorsFile(data, static_cast<size_t>(info.st_size)));
  absl::StatusOr<TensorMap> tensors = ParseSafetensors(
      {static_cast<const char*>(data), static_cast<size_t>(info.st_size)});
  if (!tensors.ok()) {
    return absl::Status(tensors.status().code(),
                        absl::StrCat(path, ": ", tensors.status().message()));
  }
  file->tensors_ = *std::move(tensors);
  return file;
}

SafetensorsFile::~SafetensorsFile() { munmap(data_, bytes_); }

absl::Status WriteSafetensors(const std::string& path,
                              absl::Span<const NamedTensor> tensors) {
  json header = json::object();
  int64_t offset = 0;
  for (const NamedTensor& tensor : tensors) {
    const int64_t end = offset + tensor.view.bytes();
    header[tensor.name] = {{"dtype", std::string(DTypeName(tensor.view.dtype))},
                           {"shape", tensor.view.shape},
                           {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // aligns the data
  char length[kLengthBytes];
  EncodeFixed64(text.size(), length);

  const std::string partial = path + ".partial";
  errno = 0;
  std::ofstream out(partial, std::ios::binary | std::ios::trunc);
  out.write(length, kLengthBytes)
      .write(text.data(), static_cast<std::streamsize>(text.size()));
  for (const NamedTensor& tensor : tensors) {
    out.write(static_cast<const char*>(tensor.view.data), tensor.view.bytes());
  }
  out.close();
  if (!out || rename(partial.c_str(), path.c_str()) != 0) {
    absl::Status status =
        absl::UnavailableError(FileError("cannot write", path));
    unlink(partial.c_str());
    return status;
  }
  return absl::OkStatus();
}

}  // namespace mneme
