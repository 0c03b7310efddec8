// How the head spills, for nodes that join and do not say it themselves: a record in the cluster's
// key-value table, which the head's raylet writes each time it registers, and others read before
// they open their store.
//
// Owner: none, free functions. Threads: thread-safe; never blocks.
// Errors: TakeOver: kInvalidArgument = no such record; nothing was changed then.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "ray/base/config.h"
#include "ray/raylet/spill_setup.h"
#include "ray/wire/v1/cluster.pb.h"

namespace ray::raylet {

// What the record says: where to, and the flags of spilling that differ from their defaults.
std::string SpillRecord(const SpillSetup& setup, const base::Config& config);

// Gives a node what it does not set itself. Folders are taken over with it: one that cannot be made
// there is left out (SpillSetup::taken_over).
absl::Status TakeOver(std::string_view record, SpillSetup* setup, base::Config* config);

wire::v1::KvRequest WriteSpillRecord(const SpillSetup& setup, const base::Config& config);
wire::v1::KvRequest ReadSpillRecord();
// Of what WriteSpillRecord has made: a node without it does the same.
bool SaysNothing(const wire::v1::KvRequest& record);

}  // namespace ray::raylet
