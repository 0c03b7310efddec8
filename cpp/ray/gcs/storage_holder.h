// The name by which a process holds a storage that others can reach, too.
//
// It says on which machine the process is, so that another one there can see whether it still runs:
// a process that replaces one which crashed need not wait until its hold has run out.
//
// Owner: none, free functions.   Threads: thread-safe.   Blocks: reads /proc.   Errors: none.
#pragma once

#include <string>
#include <string_view>

namespace ray::gcs {

// Of this process; each call gives another one.
std::string NewHolderName();
// Certainly: the process was on this machine, and is not there any more.
bool IsGone(std::string_view holder);
// "process 123 on host NAME", for messages.
std::string DescribeHolder(std::string_view holder);

}  // namespace ray::gcs
