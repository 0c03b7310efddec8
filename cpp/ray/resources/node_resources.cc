#include "ray/resources/node_resources.h"

#include <algorithm>

#include "ray/base/check.h"
#include "ray/wire/v1/resources.pb.h"

namespace ray::resources {
namespace {

using base::FixedPoint;

constexpr FixedPoint kWholeDevice = FixedPoint::FromInt(1);

std::vector<FixedPoint> DevicesOf(FixedPoint total) {
  std::vector<FixedPoint> devices;
  for (FixedPoint left = total; left > FixedPoint(); left -= kWholeDevice) {
    devices.push_back(std::min(left, kWholeDevice));
  }
  return devices;
}

}  // namespace

void ResourceAllocation::ToWire(
    google::protobuf::Map<std::string, wire::v1::ResourceInstances>* out) const {
  for (const auto& [name, shares] : instances_) {
    wire::v1::ResourceInstances& message = (*out)[name];
    for (const InstanceShare& share : shares) {
      message.add_indices(share.index);
      message.add_quantities(share.quantity.raw());
    }
  }
}

NodeResources::NodeResources(ResourceSet total, absl::Span<const std::string_view> device_resources)
    : total_(std::move(total)), available_(total_) {
  for (std::string_view name : device_resources) {
    FixedPoint quantity = total_.Get(name);
    if (!quantity.IsZero()) devices_[std::string(name)] = DevicesOf(quantity);
  }
}

NodeResources::NodeResources(const ResourceAllocation& part)
    : total_(part.quantities()), available_(total_) {
  for (const auto& [name, shares] : part.instances()) {
    Devices& devices = devices_[name];
    for (const InstanceShare& share : shares) {
      if (devices.size() <= share.index) devices.resize(share.index + 1);
      devices[share.index] = share.quantity;
    }
  }
}

std::optional<ResourceAllocation> NodeResources::Allocate(const ResourceSet& request) {
  if (!request.FitsIn(available_)) return std::nullopt;
  ResourceAllocation allocation;
  for (const auto& [name, quantity] : request) {
    auto devices = devices_.find(name);
    if (devices == devices_.end()) continue;
    // Free shares of several devices may add up without one that is large enough.
    auto shares = PickDevices(devices->second, quantity);
    if (!shares.has_value()) return std::nullopt;
    allocation.instances_[name] = *std::move(shares);
  }
  for (const auto& [name, shares] : allocation.instances_) {
    for (const InstanceShare& share : shares) devices_[name][share.index] -= share.quantity;
  }
  available_ -= request;
  allocation.quantities_ = request;
  return allocation;
}

std::optional<std::vector<InstanceShare>> NodeResources::PickDevices(const Devices& free,
                                                                     FixedPoint quantity) {
  std::vector<InstanceShare> shares;
  for (uint32_t i = 0; i < free.size() && quantity >= kWholeDevice; ++i) {
    if (free[i] < kWholeDevice) continue;
    shares.push_back({i, kWholeDevice});
    quantity -= kWholeDevice;
  }
  if (quantity.IsZero()) return shares;
  if (quantity >= kWholeDevice) return std::nullopt;

  // The whole devices picked above are the first free ones; the fraction goes elsewhere.
  auto taken = [&](uint32_t index) {
    return std::any_of(shares.begin(), shares.end(),
                       [&](const InstanceShare& share) { return share.index == index; });
  };
  std::optional<uint32_t> best;
  for (uint32_t i = 0; i < free.size(); ++i) {
    if (free[i] < quantity || taken(i)) continue;
    if (!best.has_value() || free[i] < free[*best]) best = i;
  }
  if (!best.has_value()) return std::nullopt;
  shares.push_back({*best, quantity});
  return shares;
}

void NodeResources::Release(ResourceAllocation* allocation) { ShrinkTo(allocation, {}); }

void NodeResources::ShrinkTo(ResourceAllocation* allocation, const ResourceSet& keep) {
  const ResourceSet held = allocation->quantities_;
  for (const auto& [name, quantity] : held) {
    if (FixedPoint excess = quantity - keep.Get(name); excess > FixedPoint()) {
      GiveBack(allocation, name, excess);
    }
  }
}

void NodeResources::GiveBack(ResourceAllocation* allocation, const std::string& name,
                             FixedPoint quantity) {
  available_.Add(name, quantity);
  allocation->quantities_.Add(name, FixedPoint() - quantity);
  auto shares = allocation->instances_.find(name);
  if (shares == allocation->instances_.end()) return;
  // From the last: a fraction, if there is one, goes before whole devices.
  Devices& devices = devices_[name];
  while (quantity > FixedPoint()) {
    InstanceShare& share = shares->second.back();
    FixedPoint part = std::min(share.quantity, quantity);
    devices[share.index] += part;
    share.quantity -= part;
    quantity -= part;
    if (share.quantity.IsZero()) shares->second.pop_back();
  }
  if (shares->second.empty()) allocation->instances_.erase(shares);
}

void NodeResources::Lend(std::string_view name, FixedPoint quantity) {
  MANTA_CHECK(!devices_.contains(name));
  available_.Add(name, quantity);
}

void NodeResources::Retake(std::string_view name, FixedPoint quantity) {
  MANTA_CHECK(!devices_.contains(name));
  available_.Add(name, FixedPoint() - quantity);
}

void NodeResources::CheckInvariants() const {
  for (const auto& [name, devices] : devices_) {
    FixedPoint free;
    for (FixedPoint share : devices) {
      MANTA_CHECK(share >= FixedPoint() && share <= kWholeDevice);
      free += share;
    }
    MANTA_CHECK_MSG(free == available_.Get(name), "NRES-2");
  }
}

}  // namespace ray::resources
