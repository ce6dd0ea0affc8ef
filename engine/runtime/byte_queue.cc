// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/byte_queue.h"

#include <algorithm>
#include <cstring>

namespace mneme {

void ByteQueue::Reserve(int64_t bytes) {
  reserved_ = static_cast<size_t>(bytes);
  if (buffer_.size() < reserved_) buffer_.resize(reserved_);
  Trim();
}

void ByteQueue::Append(std::string_view bytes) {
  if (bytes.empty()) return;
  if (begin_ + size_ + bytes.size() > buffer_.size()) {
    if (size_ > 0) std::memmove(buffer_.data(), buffer_.data() + begin_, size_);
    begin_ = 0;
    if (size_ + bytes.size() > buffer_.size()) {
      buffer_.resize(size_ + bytes.size());
    }
  }
  std::memcpy(buffer_.data() + begin_ + size_, bytes.data(), bytes.size());
  size_ += bytes.size();
}

void ByteQueue::Consume(int64_t bytes) {
  begin_ += static_cast<size_t>(bytes);
  size_ -= static_cast<size_t>(bytes);
  if (size_ == 0) Trim();
}

void ByteQueue::Trim() {
  const size_t wanted = std::max(reserved_, size_);
  if (size_ > 0 && begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, size_);
  }
  begin_ = 0;
  if (buffer_.size() > wanted) {
    buffer_.resize(wanted);
    buffer_.shrink_to_fit();
  }
}

}  // namespace mneme
