#include "ray/base/config.h"

#include <cstdlib>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"

namespace ray::base {
namespace {

[[maybe_unused]] bool Parse(absl::string_view text, bool* out) {
  return absl::SimpleAtob(text, out);
}
bool Parse(absl::string_view text, int64_t* out) { return absl::SimpleAtoi(text, out); }
[[maybe_unused]] bool Parse(absl::string_view text, double* out) {
  return absl::SimpleAtod(text, out);
}
bool Parse(absl::string_view text, std::string* out) {
  *out = std::string(text);
  return true;
}

[[maybe_unused]] std::string Print(bool value) { return value ? "true" : "false"; }
std::string Print(int64_t value) { return absl::StrCat(value); }
[[maybe_unused]] std::string Print(double value) { return absl::StrCat(value); }
std::string Print(const std::string& value) { return value; }

// Flags of which not every value of their type works.
struct Range {
  absl::string_view flag;
  int64_t least;
  int64_t most;
  absl::string_view why;
};
constexpr Range kRanges[] = {
    {"wire_frame_max_bytes", 1 << 20, std::numeric_limits<int32_t>::max(),
     "calls with the largest inline arguments have to fit, and messages of 2 GiB cannot be parsed"},
};

absl::Status CheckRange(absl::string_view flag, int64_t value) {
  for (const Range& range : kRanges) {
    if (flag != range.flag || (value >= range.least && value <= range.most)) continue;
    return absl::InvalidArgumentError(absl::StrCat(flag, " is ", value, ", but must be from ",
                                                   range.least, " to ", range.most, ": ",
                                                   range.why));
  }
  return absl::OkStatus();
}
template <typename T>
absl::Status CheckRange(absl::string_view, const T&) {
  return absl::OkStatus();
}

}  // namespace

absl::Status Config::LoadEnvironment() {
  absl::Status status;
  ForEachFlag([&](std::string_view name, std::string_view, std::string_view) {
    std::string variable = absl::StrCat("RAY_", absl::string_view(name.data(), name.size()));
    const char* text = std::getenv(variable.c_str());
    if (text == nullptr || !status.ok()) return;
    if (absl::Status set = Set(name, text); !set.ok()) {
      status = absl::InvalidArgumentError(
          absl::StrCat("environment variable ", variable, ": ", set.message()));
    }
  });
  return status;
}

absl::Status Config::Set(std::string_view name, std::string_view text) {
  absl::string_view value(text.data(), text.size());
#define MANTA_FLAG(type, flag, default_value, meaning)                               \
  if (name == #flag) {                                                               \
    type parsed; /* Parse writes even when it fails */                               \
    if (!Parse(value, &parsed)) {                                                    \
      return absl::InvalidArgumentError(                                             \
          absl::StrCat("'", value, "' is no valid value of " #flag " (" #type ")")); \
    }                                                                                \
    MANTA_RETURN_IF_ERROR(CheckRange(#flag, parsed));                                \
    flag = std::move(parsed);                                                        \
    return absl::OkStatus();                                                         \
  }
#include "ray/base/config_flags.inc"
#undef MANTA_FLAG
  return absl::NotFoundError(
      absl::StrCat("unknown system config '", absl::string_view(name.data(), name.size()), "'"));
}

std::map<std::string, std::string> Config::NonDefault() const {
  static const Config defaults;
  std::map<std::string, std::string> out;
#define MANTA_FLAG(type, flag, default_value, meaning) \
  if (flag != defaults.flag) out[#flag] = Print(flag);
#include "ray/base/config_flags.inc"
#undef MANTA_FLAG
  return out;
}

void Config::ForEachFlag(
    const std::function<void(std::string_view, std::string_view, std::string_view)>& visit) {
  static const Config defaults;
#define MANTA_FLAG(type, flag, default_value, meaning) visit(#flag, Print(defaults.flag), meaning);
#include "ray/base/config_flags.inc"
#undef MANTA_FLAG
}

}  // namespace ray::base
