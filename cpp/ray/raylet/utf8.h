// What processes print may be any bytes; `string` fields of protobuf must be UTF-8, or the receiver
// refuses the frame.
// Threads: free functions, thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace ray::raylet {

// `text` with each byte that is not part of valid UTF-8 replaced by U+FFFD.
std::string ToValidUtf8(std::string_view text);

}  // namespace ray::raylet
