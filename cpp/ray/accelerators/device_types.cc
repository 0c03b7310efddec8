#include "ray/accelerators/device_types.h"

#include <algorithm>
#include <iterator>
#include <sstream>

#include "ray/accelerators/host.h"

namespace ray::accelerators {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsModelCharacter(char c) { return IsDigit(c) || (c >= 'A' && c <= 'Z'); }

struct KnownDevice {
  uint64_t device_id;
  std::string_view name;
};

// The values are what real Ray 2.60 answers for these ids.
constexpr KnownDevice kAmdTypes[] = {
    {0x738c, "AMD-Instinct-MI100"},        {0x7408, "AMD-Instinct-MI250X"},
    {0x740c, "AMD-Instinct-MI250X-MI250"}, {0x740f, "AMD-Instinct-MI210"},
    {0x74a0, "AMD-Instinct-MI300A"},       {0x74a1, "AMD-Instinct-MI300X-OAM"},
    {0x74a2, "AMD-Instinct-MI308X-OAM"},   {0x74a5, "AMD-Instinct-MI325X-OAM"},
    {0x74a9, "AMD-Instinct-MI300X-HF"},    {0x75a0, "AMD-Instinct-MI350X-OAM"},
    {0x75a3, "AMD-Instinct-MI355X-OAM"},   {0x6798, "AMD-Radeon-R9-200-HD-7900"},
};

constexpr KnownDevice kIntelTypes[] = {
    {0x0bd5, "Intel-GPU-Max-1550"},
    {0x0bda, "Intel-GPU-Max-1100"},
};

constexpr KnownDevice kTpuVersions[] = {
    {0x005e, "v4"}, {0x0062, "v5p"}, {0x0063, "v5litepod"}, {0x006f, "v6e"}, {0x0076, "v7x"},
};

template <size_t kCount>
std::string_view NameOf(const KnownDevice (&known)[kCount], uint64_t device_id) {
  const auto* const found = std::find_if(std::begin(known), std::end(known), [&](const auto& one) {
    return one.device_id == device_id;
  });
  return found == std::end(known) ? std::string_view() : found->name;
}

std::string Joined(std::string text) {
  std::replace(text.begin(), text.end(), ' ', '-');
  return text;
}

}  // namespace

std::string NvidiaType(std::string_view product_name) {
  constexpr std::string_view kBrand = "NVIDIA ";
  const std::string_view name = Trim(product_name);
  // After the brand, capitals up to the first model number name a product: RTX PRO 6000, V100.
  std::istringstream words{std::string(name)};
  std::string word;
  words >> word;
  std::string type;
  while (words >> word) {
    const auto end = std::find_if_not(word.begin(), word.end(), IsModelCharacter);
    if (std::any_of(word.begin(), end, IsDigit)) return type + std::string(word.begin(), end);
    if (end != word.end()) break;
    type += word + "-";
  }
  // Products for the desktop are told apart by their whole name.
  return Joined(std::string(name.starts_with(kBrand) ? name.substr(kBrand.size()) : name));
}

std::string_view AmdType(uint64_t device_id) { return NameOf(kAmdTypes, device_id); }
std::string_view IntelGpuType(uint64_t device_id) { return NameOf(kIntelTypes, device_id); }
std::string_view TpuVersion(uint64_t device_id) { return NameOf(kTpuVersions, device_id); }

}  // namespace ray::accelerators
