// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_BASE_STATUS_MACROS_H_
#define MNEME_ENGINE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function if `expr`, an absl::Status, is not OK.
#define MNEME_RETURN_IF_ERROR(expr)              \
  do {                                           \
    absl::Status mneme_status = (expr);          \
    if (!mneme_status.ok()) return mneme_status; \
  } while (false)

#define MNEME_CONCAT_INNER(a, b) a##b
#define MNEME_CONCAT(a, b) MNEME_CONCAT_INNER(a, b)

// Declares or assigns `lhs` from `expr`, an absl::StatusOr; returns its status
// from the enclosing function if it holds none.
#define MNEME_ASSIGN_OR_RETURN(lhs, expr) \
  MNEME_ASSIGN_OR_RETURN_INNER(MNEME_CONCAT(mneme_or_, __LINE__), lhs, expr)
// A declaration cannot stand in parentheses.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define MNEME_ASSIGN_OR_RETURN_INNER(result, lhs, expr) \
  auto result = (expr);                                 \
  if (!result.ok()) return std::move(result).status();  \
  lhs = *std::move(result)
// NOLINTEND(bugprone-macro-parentheses)

#endif  // MNEME_ENGINE_BASE_STATUS_MACROS_H_
