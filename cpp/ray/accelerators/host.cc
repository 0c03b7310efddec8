#include "ray/accelerators/host.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <system_error>

namespace ray::accelerators {
namespace {

template <typename Number>
std::optional<Number> Parse(std::string_view text, int base) {
  Number value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value, base);
  if (text.empty() || error != std::errc() || stop != end) return std::nullopt;
  return value;
}

}  // namespace

Host Host::Current() {
  Host host;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    host.environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return host;
}

std::optional<std::string> Host::Variable(std::string_view name) const {
  const auto entry = environment.find(name);
  if (entry == environment.end()) return std::nullopt;
  return entry->second;
}

bool Host::IsOn(std::string_view name) const {
  const std::string value = Variable(name).value_or("");
  return !value.empty() && value != "0" && value != "false";
}

std::string Host::ReadLine(const std::filesystem::path& path) const {
  std::ifstream file(root / path);
  std::string line;
  std::getline(file, line);
  return std::string(Trim(line));
}

std::optional<uint64_t> Host::ReadNumber(const std::filesystem::path& path) const {
  const std::string text = ReadLine(path);
  if (text.starts_with("0x")) return Parse<uint64_t>(std::string_view(text).substr(2), 16);
  return Parse<uint64_t>(text, 10);
}

std::vector<uint32_t> Host::NumberedEntries(const std::filesystem::path& folder,
                                            std::string_view prefix) const {
  std::vector<uint32_t> numbers;
  std::error_code error;
  std::filesystem::directory_iterator entry(root / folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (!name.starts_with(prefix)) continue;
    if (const auto number = ParseIndex(std::string_view(name).substr(prefix.size()))) {
      numbers.push_back(*number);
    }
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

std::vector<std::string> SplitList(std::string_view text) {
  std::vector<std::string> items;
  if (Trim(text).empty()) return items;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    items.emplace_back(Trim(text.substr(begin, comma - begin)));
    begin = comma + 1;
  }
  return items;
}

std::string JoinList(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) {
    if (!text.empty()) text += ',';
    text += item;
  }
  return text;
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kWhite = " \t\r\n";
  const size_t begin = text.find_first_not_of(kWhite);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kWhite) - begin + 1);
}

std::optional<uint32_t> ParseIndex(std::string_view text) { return Parse<uint32_t>(text, 10); }

}  // namespace ray::accelerators
