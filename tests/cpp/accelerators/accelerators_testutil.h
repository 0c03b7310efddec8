// A machine made of files in a temporary folder, and settings for the fake NVML.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "ray/accelerators/host.h"
#include "ray/accelerators/nvml.h"

namespace ray::accelerators {

class FakeMachine {
 public:
  FakeMachine() {
    std::string name = (std::filesystem::temp_directory_path() / "manta_accelerators.XXXXXX");
    host_.root = mkdtemp(name.data());
    // Not the machine's own.
    host_.environment[Nvml::kLibraryVariable] = FAKE_NVML;
    SetDevices("");
  }
  ~FakeMachine() {
    std::filesystem::remove_all(host_.root);
    for (const auto& [name, value] : settings_) unsetenv(name.c_str());
  }
  FakeMachine(const FakeMachine&) = delete;
  FakeMachine& operator=(const FakeMachine&) = delete;

  const Host& host() const { return host_; }

  void Set(const std::string& variable, const std::string& value) {
    host_.environment[variable] = value;
  }
  void Write(const std::string& path, const std::string& text = "") {
    std::filesystem::create_directories((host_.root / path).parent_path());
    std::ofstream(host_.root / path) << text;
  }
  // See fake_nvml.cc. The fake library reads the environment of the process.
  void SetDevices(const std::string& list) { SetFake("FAKE_NVML_DEVICES", list); }
  void SetFake(const std::string& name, const std::string& value) {
    settings_[name] = value;
    setenv(name.c_str(), value.c_str(), 1);
  }

 private:
  Host host_;
  std::map<std::string, std::string> settings_;
};

}  // namespace ray::accelerators
