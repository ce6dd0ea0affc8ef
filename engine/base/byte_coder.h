// SPDX-License-Identifier: Apache-2.0
//
// Records as bytes: numbers little-endian, strings with their length before
// them. What one side writes the other reads in the same order.
#ifndef MNEME_ENGINE_BASE_BYTE_CODER_H_
#define MNEME_ENGINE_BASE_BYTE_CODER_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "engine/base/coding.h"

namespace mneme {

// Appends to a string, which outlives it.
class ByteWriter {
 public:
  explicit ByteWriter(std::string& out) : out_(out) {}

  void U8(uint8_t value) { out_.push_back(static_cast<char>(value)); }
  void Bool(bool value) { U8(value ? 1 : 0); }
  void U32(uint32_t value) {
    char bytes[4];
    EncodeFixed32(value, bytes);
    out_.append(bytes, sizeof bytes);
  }
  void U64(uint64_t value) {
    char bytes[8];
    EncodeFixed64(value, bytes);
    out_.append(bytes, sizeof bytes);
  }
  void I64(int64_t value) { U64(static_cast<uint64_t>(value)); }
  void F32(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    U32(bits);
  }
  // As they are.
  void Raw(std::string_view bytes) { out_.append(bytes); }
  // Behind their number, as a U64.
  void Bytes(std::string_view bytes) {
    U64(bytes.size());
    Raw(bytes);
  }

 private:
  std::string& out_;
};

// Reads from bytes that outlive it. Once it has been asked for more than there
// is, or for a value that its type does not have, it has failed for good, and
// answers zero or nothing.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  uint8_t U8() {
    const std::string_view bytes = Raw(1);
    return bytes.empty() ? 0 : static_cast<uint8_t>(bytes[0]);
  }
  bool Bool() {
    const uint8_t value = U8();
    if (value > 1) Fail();
    return value == 1;
  }
  uint32_t U32() {
    const std::string_view bytes = Raw(4);
    return bytes.empty() ? 0 : DecodeFixed32(bytes.data());
  }
  uint64_t U64() {
    const std::string_view bytes = Raw(8);
    return bytes.empty() ? 0 : DecodeFixed64(bytes.data());
  }
  int64_t I64() { return static_cast<int64_t>(U64()); }
  // A size or a count: fails if it is negative.
  int64_t Count() {
    const int64_t value = I64();
    if (value < 0) Fail();
    return failed_ ? 0 : value;
  }
  float F32() {
    const uint32_t bits = U32();
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  std::string_view Raw(uint64_t count) {
    if (failed_ || count > bytes_.size()) {
      Fail();
      return {};
    }
    const std::string_view front = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return front;
  }
  std::string_view Bytes() { return Raw(U64()); }
  std::string String() { return std::string(Bytes()); }

  // For a value that means nothing.
  void Fail() {
    failed_ = true;
    bytes_ = {};
  }
  bool ok() const { return !failed_; }
  // All was read, and nothing was wrong.
  bool done() const { return ok() && bytes_.empty(); }
  size_t left() const { return bytes_.size(); }

 private:
  std::string_view bytes_;
  bool failed_ = false;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_BYTE_CODER_H_
