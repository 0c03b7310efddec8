// Ids that arrive in messages: of the right length, or an error that names the field.
// Threads: free functions, thread-safe.
#pragma once

#include <string_view>

#include "ray/base/ids.h"
#include "ray/base/status_macros.h"

namespace ray::gcs {

template <typename Id>
absl::StatusOr<Id> ParseId(std::string_view bytes, std::string_view field) {
  absl::StatusOr<Id> id = Id::FromBinary(bytes);
  if (!id.ok()) return base::Annotate(id.status(), field);
  return id;
}

}  // namespace ray::gcs
