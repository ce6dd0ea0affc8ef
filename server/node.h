// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_NODE_H_
#define MNEME_SERVER_NODE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/time/time.h"

namespace mneme::server {

// The constants of the memory bound. What gRPC may hold in buffers, for all
// connections together.
inline constexpr int64_t kTransportBytes = 128 << 20;
// The program itself, its threads, and what the allocator keeps.
inline constexpr int64_t kProcessBytes = 64 << 20;

// What the admin service needs of the daemon as a whole.
struct NodeContext {
  enum class State { kServing, kDraining, kDrained };
  std::string name;     // an id; `nodes/{name}`
  std::string version;  // of the program
  std::string address;  // where clients reach it
  absl::Time start_time;
  std::map<std::string, std::string> settings;  // in force, as given
  std::atomic<State> state{State::kServing};
  // Ends all work by `deadline`, and keeps the listeners open. Blocks.
  std::function<void(absl::Time deadline)> drain;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_NODE_H_
