// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_KEPT_REPLY_H_
#define MNEME_ENGINE_RUNTIME_KEPT_REPLY_H_

#include <memory>
#include <string>

#include "engine/runtime/reply.h"

namespace mneme {

class GenerationTask;

// The answer to a request that may come again.
struct KeptReply {
  std::string request_id;  // empty: there is none
  std::string request_digest;
  bool had_prompt = false;
  std::shared_ptr<Reply> reply;
  std::weak_ptr<GenerationTask> task;  // while it runs
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_KEPT_REPLY_H_
