// What the detection of accelerators reads of a machine: files below a root and the environment.
// Tests give a root and an environment of their own.
// Threads: immutable value.   Errors: what cannot be read counts as absent.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ray::accelerators {

struct Host {
  std::filesystem::path root = "/";
  std::map<std::string, std::string, std::less<>> environment;

  // This machine, with the environment of this process as it is now.
  static Host Current();

  std::optional<std::string> Variable(std::string_view name) const;
  // Set, and neither "", "0" nor "false".
  bool IsOn(std::string_view name) const;

  // Paths are relative to the root. The first line without white space around it; "" if there is
  // none.
  std::string ReadLine(const std::filesystem::path& path) const;
  // A number, also hexadecimal with 0x.
  std::optional<uint64_t> ReadNumber(const std::filesystem::path& path) const;
  // The numbers n for which the folder has an entry `prefix`n, ascending.
  std::vector<uint32_t> NumberedEntries(const std::filesystem::path& folder,
                                        std::string_view prefix) const;
};

// "0, 1,2" is {"0", "1", "2"}; "" is {}.
std::vector<std::string> SplitList(std::string_view text);
std::string JoinList(const std::vector<std::string>& items);
std::string_view Trim(std::string_view text);
// Decimal digits only.
std::optional<uint32_t> ParseIndex(std::string_view text);

}  // namespace ray::accelerators
