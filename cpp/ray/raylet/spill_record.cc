#include "ray/raylet/spill_record.h"

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "ray/base/status_macros.h"

namespace ray::raylet {
namespace {

using Json = nlohmann::json;
using wire::v1::KvRequest;

constexpr char kNamespace[] = "_cluster";
constexpr char kKey[] = "spilling";
constexpr char kPlaces[] = "object_spilling_config";
constexpr const char* kFlags[] = {"object_spilling_threshold", "min_spilling_size_bytes",
                                  "spill_disk_quota_bytes"};

KvRequest About(KvRequest::Op op) {
  KvRequest request;
  request.set_op(op);
  request.set_kv_namespace(kNamespace);
  request.set_key(kKey);
  return request;
}

}  // namespace

std::string SpillRecord(const SpillSetup& setup, const base::Config& config) {
  Json record = Json::object();
  if (!setup.text.empty()) record[kPlaces] = setup.text;
  const std::map<std::string, std::string> set = config.NonDefault();
  for (const char* flag : kFlags) {
    if (auto it = set.find(flag); it != set.end()) record[flag] = it->second;
  }
  return record.dump();
}

absl::Status TakeOver(std::string_view text, SpillSetup* setup, base::Config* config) {
  const Json record = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!record.is_object()) {
    return absl::InvalidArgumentError("the head's record of spilling is no JSON object");
  }
  const auto find = [&](const char* name) {
    auto it = record.find(name);
    return it == record.end() || !it->is_string() ? std::string() : it->get<std::string>();
  };
  SpillSetup taken = *setup;
  if (setup->text.empty()) {
    MANTA_ASSIGN_OR_RETURN(taken, ParseSpillSetup(find(kPlaces)));
    taken.worker_command = setup->worker_command;
    taken.taken_over = true;
  }
  base::Config changed = *config;
  const std::map<std::string, std::string> own = config->NonDefault();
  for (const char* flag : kFlags) {
    const std::string value = find(flag);
    if (!value.empty() && !own.contains(flag)) MANTA_RETURN_IF_ERROR(changed.Set(flag, value));
  }
  *setup = std::move(taken);
  *config = std::move(changed);
  return absl::OkStatus();
}

KvRequest WriteSpillRecord(const SpillSetup& setup, const base::Config& config) {
  KvRequest request = About(KvRequest::PUT);
  request.set_value(SpillRecord(setup, config));
  request.set_overwrite(true);
  return request;
}

bool SaysNothing(const KvRequest& record) { return record.value() == Json::object().dump(); }

KvRequest ReadSpillRecord() { return About(KvRequest::GET); }

}  // namespace ray::raylet
