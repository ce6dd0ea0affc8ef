// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/byte_queue.h"

#include <random>
#include <string>

#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(ByteQueueTest, AnswersLikeAString) {
  std::mt19937 random(1);
  ByteQueue queue;
  std::string plain;
  for (int i = 0; i < 20'000; ++i) {
    switch (random() % 8) {
      case 0:
        queue.Reserve(random() % 2 == 0 ? 0 : 64);
        break;
      case 1:
      case 2:
      case 3: {
        const std::string bytes(random() % 40, static_cast<char>(random()));
        queue.Append(bytes);
        plain += bytes;
        break;
      }
      case 4:
        if (random() % 16 == 0) {
          queue.Clear();
          plain.clear();
        }
        break;
      default: {
        const size_t bytes = random() % (plain.size() + 1);
        queue.Consume(static_cast<int64_t>(bytes));
        plain.erase(0, bytes);
      }
    }
    ASSERT_EQ(queue.bytes(), plain);
    ASSERT_EQ(queue.size(), static_cast<int64_t>(plain.size()));
    ASSERT_EQ(queue.empty(), plain.empty());
  }
}

TEST(ByteQueueTest, WhatIsReservedStaysWhereItIs) {
  ByteQueue queue;
  queue.Reserve(100);
  const char* const place = queue.bytes().data();
  for (int i = 0; i < 100; ++i) {
    queue.Append(std::string(70, 'a'));
    queue.Consume(40);
    queue.Append(std::string(70, 'b'));
    EXPECT_EQ(queue.bytes(), std::string(30, 'a') + std::string(70, 'b'));
    queue.Clear();
    ASSERT_EQ(queue.bytes().data(), place);
  }
}

}  // namespace
}  // namespace mneme
