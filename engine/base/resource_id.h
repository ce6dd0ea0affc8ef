// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_BASE_RESOURCE_ID_H_
#define MNEME_ENGINE_BASE_RESOURCE_ID_H_

#include <string>

namespace mneme {

// What the ids of sessions and the names of models look like.
inline constexpr char kResourceIdPattern[] = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}";

// Whether `id` is of kResourceIdPattern.
bool IsResourceId(const std::string& id);

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_RESOURCE_ID_H_
