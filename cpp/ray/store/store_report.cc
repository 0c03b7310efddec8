#include "ray/store/store_report.h"

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ray::store {
namespace {

constexpr size_t kHoldersShown = 5;

struct Holding {
  uint64_t bytes = 0;
  uint64_t objects = 0;
};
using Holders = std::vector<std::pair<std::string, Holding>>;

// The largest holders, a line each, and a line for the rest.
void AppendHolders(std::string title, Holders holders, std::string* text) {
  if (holders.empty()) return;
  std::sort(holders.begin(), holders.end(), [](const auto& a, const auto& b) {
    return std::tie(b.second.bytes, a.first) < std::tie(a.second.bytes, b.first);
  });
  absl::StrAppend(text, "\n", title);
  Holding rest;
  for (size_t i = 0; i < holders.size(); ++i) {
    const auto& [who, holding] = holders[i];
    if (i < kHoldersShown) {
      absl::StrAppend(text, "\n  ", FormatBytes(holding.bytes), " in ", holding.objects,
                      " objects: ", who);
    } else {
      rest.bytes += holding.bytes;
      rest.objects += holding.objects;
    }
  }
  if (rest.objects > 0) {
    absl::StrAppend(text, "\n  ", FormatBytes(rest.bytes), " in ", rest.objects,
                    " objects: others");
  }
}

Holders ByKindAndOwner(const ObjectTable& table) {
  absl::flat_hash_map<std::pair<std::string, base::WorkerId>, Holding> holdings;
  for (const auto& [id, object] : table.objects()) {
    if (!HasMemory(object.state)) continue;
    Holding& holding = holdings[{object.note, object.owner}];
    holding.bytes += object.block.size;
    ++holding.objects;
  }
  Holders holders;
  for (const auto& [key, holding] : holdings) {
    holders.emplace_back(absl::StrCat("\"", key.first, "\" owned by worker ", key.second.Hex()),
                         holding);
  }
  return holders;
}

Holders ByClient(const ObjectTable& table,
                 const absl::node_hash_map<ClientId, ClientRecord>& clients) {
  Holders holders;
  for (const auto& [id, client] : clients) {
    Holding holding;
    for (const auto& [object_id, pins] : client.pins) {
      holding.bytes += table.Find(object_id)->block.size;
      ++holding.objects;
    }
    if (holding.objects == 0) continue;
    holders.emplace_back(
        client.name.empty() ? absl::StrCat("client ", static_cast<uint64_t>(id)) : client.name,
        holding);
  }
  return holders;
}

}  // namespace

std::string FormatBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes) / 1024;
  int unit = 0;
  for (; value >= 1024 && unit < 3; ++unit) value /= 1024;
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string DescribeUse(const StoreStats& stats, const ObjectTable& table,
                        const absl::node_hash_map<ClientId, ClientRecord>& clients) {
  std::string text = absl::StrCat(
      "Object store: ", FormatBytes(stats.allocated_bytes), " of ",
      FormatBytes(stats.capacity_bytes), " in use, of these ", FormatBytes(stats.pinned_bytes),
      " pinned by clients, ", FormatBytes(table.spillable().bytes()), " not pinned, ",
      FormatBytes(table.droppable().bytes()), " droppable; the largest free block has ",
      FormatBytes(table.arena().largest_free_bytes()), ". ", stats.waiting_creates,
      " creations wait for ", FormatBytes(stats.waiting_create_bytes), ".");
  if (stats.disk_bytes > 0) {
    absl::StrAppend(&text, " On disk: ", FormatBytes(stats.disk_bytes), "; ", stats.spilled_objects,
                    " objects are only there.");
  }
  AppendHolders("Memory by kind and owner:", ByKindAndOwner(table), &text);
  AppendHolders("Pins by client:", ByClient(table, clients), &text);
  return text;
}

}  // namespace ray::store
