#include "ray/resources/resource_set.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ray/wire/v1/resources.pb.h"

namespace ray::resources {
namespace {

template <typename Entries>
auto LowerBound(Entries& entries, std::string_view name) {
  return std::lower_bound(
      entries.begin(), entries.end(), name,
      [](const ResourceSet::Entry& entry, std::string_view key) { return entry.first < key; });
}

}  // namespace

ResourceSet::ResourceSet(std::initializer_list<std::pair<std::string_view, double>> quantities) {
  for (const auto& [name, quantity] : quantities) {
    Set(name, base::FixedPoint::FromDouble(quantity));
  }
}

absl::StatusOr<ResourceSet> ResourceSet::FromWire(const wire::v1::ResourceSet& message) {
  ResourceSet set;
  for (const auto& [name, quantity] : message.quantities()) {
    if (name.empty()) return absl::InvalidArgumentError("a resource without a name");
    if (quantity < 0) {
      return absl::InvalidArgumentError(absl::StrCat("a negative quantity of ", name));
    }
    set.Set(name, base::FixedPoint::FromRaw(quantity));
  }
  return set;
}

wire::v1::ResourceSet ResourceSet::ToWire() const {
  wire::v1::ResourceSet message;
  for (const auto& [name, quantity] : entries_) {
    if (quantity.raw() > 0) (*message.mutable_quantities())[name] = quantity.raw();
  }
  return message;
}

base::FixedPoint ResourceSet::Get(std::string_view name) const {
  auto it = LowerBound(entries_, name);
  return it != entries_.end() && it->first == name ? it->second : base::FixedPoint();
}

void ResourceSet::Set(std::string_view name, base::FixedPoint quantity) {
  auto it = LowerBound(entries_, name);
  bool found = it != entries_.end() && it->first == name;
  if (found && quantity.IsZero()) {
    entries_.erase(it);
  } else if (found) {
    it->second = quantity;
  } else if (!quantity.IsZero()) {
    entries_.emplace(it, std::string(name), quantity);
  }
}

bool ResourceSet::FitsIn(const ResourceSet& pool) const {
  return std::all_of(entries_.begin(), entries_.end(),
                     [&](const Entry& entry) { return entry.second <= pool.Get(entry.first); });
}

ResourceSet ResourceSet::Restrict(const ResourceSet& names) const {
  ResourceSet kept;
  for (const auto& [name, quantity] : names.entries_) kept.Set(name, Get(name));
  return kept;
}

ResourceSet ResourceSet::Max(const ResourceSet& a, const ResourceSet& b) {
  ResourceSet max = a;
  for (const auto& [name, quantity] : b) max.Set(name, std::max(quantity, a.Get(name)));
  return max;
}

ResourceSet& ResourceSet::operator+=(const ResourceSet& other) {
  for (const auto& [name, quantity] : other) Set(name, Get(name) + quantity);
  return *this;
}

ResourceSet& ResourceSet::operator-=(const ResourceSet& other) {
  for (const auto& [name, quantity] : other) Set(name, Get(name) - quantity);
  return *this;
}

std::string ResourceSet::ToString() const {
  return absl::StrCat("{",
                      absl::StrJoin(entries_, ", ",
                                    [](std::string* out, const Entry& entry) {
                                      absl::StrAppend(out, entry.first, ": ",
                                                      FormatQuantity(entry.second));
                                    }),
                      "}");
}

std::string FormatQuantity(base::FixedPoint quantity) {
  const int64_t raw = quantity.raw();
  std::string text = absl::StrCat(raw < 0 ? "-" : "", std::abs(raw / base::FixedPoint::kUnit));
  if (const int64_t fraction = std::abs(raw % base::FixedPoint::kUnit); fraction != 0) {
    absl::StrAppend(&text, ".", absl::Dec(fraction, absl::kZeroPad4));
    text.erase(text.find_last_not_of('0') + 1);
  }
  return text;
}

}  // namespace ray::resources
