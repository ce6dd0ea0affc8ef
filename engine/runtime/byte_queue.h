// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_BYTE_QUEUE_H_
#define MNEME_ENGINE_RUNTIME_BYTE_QUEUE_H_

#include <cstdint>
#include <string_view>
#include <vector>

namespace mneme {

// Bytes, first in, first out, in one piece. Memory that Reserve asked for is
// there from then on; what is added beyond it is given back with the last byte,
// or by Trim.
class ByteQueue {
 public:
  // Keeps room for `bytes` until it is called again; with 0, empties keep none.
  void Reserve(int64_t bytes);

  void Append(std::string_view bytes);
  // Takes the first `bytes` away. REQUIRES: bytes <= size().
  void Consume(int64_t bytes);
  void Clear() { Consume(size()); }
  // Keeps no more memory than is reserved, or needed for what is there.
  void Trim();

  // Until the next change.
  std::string_view bytes() const { return {buffer_.data() + begin_, size_}; }
  int64_t size() const { return static_cast<int64_t>(size_); }
  bool empty() const { return size_ == 0; }

 private:
  std::vector<char> buffer_;  // all of it touched
  size_t reserved_ = 0;
  size_t begin_ = 0;
  size_t size_ = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_BYTE_QUEUE_H_
