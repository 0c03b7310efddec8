// A folder of a test's own, which goes with all that is in it. Threads: immutable.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "ray/base/check.h"

namespace ray::base {

class TempFolder {
 public:
  TempFolder() : path_((std::filesystem::temp_directory_path() / "manta_XXXXXX").string()) {
    MANTA_CHECK(mkdtemp(path_.data()) != nullptr);
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  // The path of something in it.
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

}  // namespace ray::base
