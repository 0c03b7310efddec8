// Which event of a GcsClient a message of the GCS is.
// Threads: those of the events.   Errors: none.
#pragma once

#include "ray/gcs/gcs_client.h"

namespace ray::gcs {

// A message that says nothing but an acknowledgement is no event.
void RaiseEvent(const v1::GcsMessage& message, const GcsClient::Events& events);

}  // namespace ray::gcs
