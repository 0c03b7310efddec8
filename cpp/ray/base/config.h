// Every timeout, limit and switch of the runtime: one table, config_flags.inc, that says name,
// type, default and meaning. A flag is set by the environment (RAY_<name>), or by
// ray.init(_system_config={...}), which wins. The head's values travel to every process of the
// cluster in HelloReply. Threads: a Config is written before threads start and immutable
// afterwards.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace ray::base {

struct Config {
#define MANTA_FLAG(type, name, value, meaning) type name = value;
#include "ray/base/config_flags.inc"
#undef MANTA_FLAG

  // Reads RAY_<name> for every flag. kInvalidArgument names the variable and the value that does
  // not parse.
  absl::Status LoadEnvironment();

  // Sets one flag from text. kNotFound for an unknown name, kInvalidArgument for text that does not
  // parse and for a value that cannot work.
  absl::Status Set(std::string_view name, std::string_view text);

  // Flags that differ from their defaults, as text that Set() reads.
  std::map<std::string, std::string> NonDefault() const;

  // For `--help` and documentation: name, default and meaning of each flag.
  static void ForEachFlag(const std::function<void(std::string_view name, std::string_view value,
                                                   std::string_view meaning)>& visit);
};

}  // namespace ray::base
