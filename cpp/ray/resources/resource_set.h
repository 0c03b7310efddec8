// Quantities by resource name ("CPU", "GPU", "memory", custom ones): what a task asks for, what a
// node has.
// Threads: thread-compatible value.   Errors: FromWire refuses what no well-behaved peer
// sends.
//   RSET-1  entries are sorted by name, names are distinct and no quantity is zero: one form for
//           one meaning.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "ray/base/fixed_point.h"

namespace ray::wire::v1 {
class ResourceSet;
}

namespace ray::resources {

inline constexpr std::string_view kCpu = "CPU";
inline constexpr std::string_view kGpu = "GPU";
inline constexpr std::string_view kMemory = "memory";
inline constexpr std::string_view kObjectStoreMemory = "object_store_memory";

class ResourceSet {
 public:
  using Entry = std::pair<std::string, base::FixedPoint>;

  ResourceSet() = default;
  // Later entries of the same name replace earlier ones.
  ResourceSet(std::initializer_list<std::pair<std::string_view, double>> quantities);

  // kInvalidArgument for a negative quantity or an empty name.
  static absl::StatusOr<ResourceSet> FromWire(const wire::v1::ResourceSet& message);
  // Negative quantities (an oversubscribed node) are sent as zero, that is: left out.
  wire::v1::ResourceSet ToWire() const;

  base::FixedPoint Get(std::string_view name) const;
  void Set(std::string_view name, base::FixedPoint quantity);
  void Add(std::string_view name, base::FixedPoint quantity) { Set(name, Get(name) + quantity); }

  bool IsEmpty() const { return entries_.empty(); }
  // Every quantity asked for here is there in `pool`.
  bool FitsIn(const ResourceSet& pool) const;
  // Only what `names` has a quantity of.
  ResourceSet Restrict(const ResourceSet& names) const;
  // The larger quantity of each name.
  static ResourceSet Max(const ResourceSet& a, const ResourceSet& b);

  ResourceSet& operator+=(const ResourceSet& other);
  ResourceSet& operator-=(const ResourceSet& other);

  std::vector<Entry>::const_iterator begin() const { return entries_.begin(); }
  std::vector<Entry>::const_iterator end() const { return entries_.end(); }

  // "{CPU: 1, GPU: 0.5}".
  std::string ToString() const;

  friend bool operator==(const ResourceSet& a, const ResourceSet& b) = default;
  template <typename H>
  friend H AbslHashValue(H h, const ResourceSet& set) {
    for (const auto& [name, quantity] : set.entries_) {
      h = H::combine(std::move(h), name, quantity.raw());
    }
    return H::combine(std::move(h), set.entries_.size());
  }

 private:
  std::vector<Entry> entries_;  // a handful: a sorted vector beats a map
};

// "0.5", "1", "17693551412": exact, without needless digits.
std::string FormatQuantity(base::FixedPoint quantity);

}  // namespace ray::resources
