// Propagation of absl::Status and absl::StatusOr.
//   MANTA_RETURN_IF_ERROR(expr);
//   MANTA_ASSIGN_OR_RETURN(auto value, expr);
// Annotate() adds context in front of a message and keeps the code.
#pragma once

#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace ray::base {

inline absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(absl::string_view(context.data(), context.size()),
                                                  ": ", status.message()));
}

}  // namespace ray::base

#define MANTA_RETURN_IF_ERROR(expr)                                                    \
  do {                                                                                 \
    if (::absl::Status manta_status = (expr); !manta_status.ok()) return manta_status; \
  } while (false)

#define MANTA_CONCAT_INNER(a, b) a##b
#define MANTA_CONCAT(a, b) MANTA_CONCAT_INNER(a, b)
#define MANTA_ASSIGN_OR_RETURN(lhs, expr)                  \
  auto MANTA_CONCAT(manta_result_, __LINE__) = (expr);     \
  if (!MANTA_CONCAT(manta_result_, __LINE__).ok())         \
    return MANTA_CONCAT(manta_result_, __LINE__).status(); \
  lhs = std::move(*MANTA_CONCAT(manta_result_, __LINE__))
