// Where a node spills objects to, from what the user says (docs/object_store.md): folders, or
// storage with a URL.
//
// Owner: none, free functions. Threads: thread-safe. Errors: kInvalidArgument = the text says
// nothing that can be used; the message says what it should.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ray/store/io_thread.h"
#include "ray/store/shared_memory.h"
#include "ray/store/spill_target.h"

namespace ray::raylet {

struct SpillSetup {
  std::string text;                      // that says all this; empty: nobody did
  std::vector<std::string> directories;  // on several disks: used in turn; empty: the one below
  std::string default_directory;
  bool taken_over = false;                  // from the head: directories that fail are left out
  std::vector<std::string> uris;            // if any, objects go there instead
  std::string uri_options_json = "{}";      // for fsspec
  std::vector<std::string> worker_command;  // of the process that reaches URIs
  std::string log_file;                     // of that process

  // Files that are written at the same time.
  int parallel_writes() const {
    return static_cast<int>(std::max<size_t>({directories.size(), uris.size(), 1}));
  }
};

// Reads the JSON of object_spilling_config:
//   {"type": "filesystem", "params": {"directory_path": PATH or [PATH, ...]}}
//   {"type": "smart_open", "params": {"uri": URI or [URI, ...], "storage_options": {...}}}
// Empty text: folders and URIs stay empty.
absl::StatusOr<SpillSetup> ParseSpillSetup(const std::string& text);

// `memory` outlives the target. `unique_name` tells this node's folder of a URI from others'.
// Errors: as FileSpillTarget::Create.
absl::StatusOr<std::unique_ptr<store::SpillTarget>> MakeSpillTarget(
    const SpillSetup& setup, const std::string& unique_name, const store::SharedMemory* memory,
    const store::IoThread::Post& post);

}  // namespace ray::raylet
