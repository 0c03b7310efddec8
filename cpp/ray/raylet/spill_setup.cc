#include "ray/raylet/spill_setup.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/raylet/external_spill_target.h"
#include "ray/store/file_spill_target.h"
#include "ray/store/striped_spill_target.h"

namespace ray::raylet {

namespace {

using Json = nlohmann::json;
using store::SpillTarget;
using Targets = std::vector<std::unique_ptr<SpillTarget>>;

absl::Status Malformed(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(
      "object_spilling_config: ", what,
      ". Expected: {\"type\": \"filesystem\", \"params\": {\"directory_path\": \"/folder\"}} or "
      "{\"type\": \"smart_open\", \"params\": {\"uri\": \"s3://bucket/folder\"}}"));
}

// A text or a list of texts, none of them empty.
absl::StatusOr<std::vector<std::string>> ParseTexts(const Json& params, const char* name) {
  if (!params.contains(name)) return Malformed(absl::StrCat("params has no ", name));
  const Json& value = params[name];
  std::vector<std::string> texts;
  for (const Json& text : value.is_array() ? value : Json::array({value})) {
    if (!text.is_string() || text.get<std::string>().empty()) {
      return Malformed(absl::StrCat(name, " is no text or list of texts"));
    }
    texts.push_back(text.get<std::string>());
  }
  if (texts.empty()) return Malformed(absl::StrCat(name, " is empty"));
  return texts;
}

std::unique_ptr<SpillTarget> Joined(Targets targets) {
  if (targets.size() == 1) return std::move(targets.front());
  return std::make_unique<store::StripedSpillTarget>(std::move(targets));
}

}  // namespace

absl::StatusOr<SpillSetup> ParseSpillSetup(const std::string& text) {
  SpillSetup setup;
  if (text.empty()) return setup;
  setup.text = text;
  const Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return Malformed("it is no JSON object");
  const Json params = config.value("params", Json::object());
  const Json type = config.value("type", Json());
  if (!params.is_object()) return Malformed("params is no object");
  if (type == "filesystem") {
    MANTA_ASSIGN_OR_RETURN(setup.directories, ParseTexts(params, "directory_path"));
  } else if (type == "smart_open") {
    MANTA_ASSIGN_OR_RETURN(setup.uris, ParseTexts(params, "uri"));
    const Json options = params.value("storage_options", Json::object());
    if (!options.is_object()) return Malformed("storage_options is no object");
    setup.uri_options_json = options.dump();
  } else {
    return Malformed(absl::StrCat("there is no type ", type.dump()));
  }
  return setup;
}

absl::StatusOr<std::unique_ptr<SpillTarget>> MakeSpillTarget(const SpillSetup& setup,
                                                             const std::string& unique_name,
                                                             const store::SharedMemory* memory,
                                                             const store::IoThread::Post& post) {
  auto in_folders = [&]() -> absl::StatusOr<std::unique_ptr<SpillTarget>> {
    Targets folders;
    for (const std::string& directory : setup.directories) {
      auto folder = store::FileSpillTarget::Create(directory, memory, post);
      if (!folder.ok() && !setup.taken_over) return folder.status();
      if (folder.ok()) {
        folders.push_back(*std::move(folder));
      } else {
        MANTA_LOG(kWarning,
                  "this node does not spill where the head does: ", folder.status().message());
      }
    }
    if (folders.empty()) {
      MANTA_ASSIGN_OR_RETURN(folders.emplace_back(),
                             store::FileSpillTarget::Create(setup.default_directory, memory, post));
    }
    return Joined(std::move(folders));
  };
  if (setup.uris.empty()) return in_folders();
  Targets external;
  for (const std::string& uri : setup.uris) {
    MANTA_ASSIGN_OR_RETURN(std::unique_ptr<SpillTarget> files, in_folders());
    ExternalSpillTarget::Options options{
        .command = setup.worker_command,
        .log_file = setup.log_file,
        .uri = absl::StrCat(absl::StripSuffix(uri, "/"), "/", unique_name),
        .options_json = setup.uri_options_json};
    MANTA_ASSIGN_OR_RETURN(
        external.emplace_back(),
        ExternalSpillTarget::Create(std::move(options), memory, std::move(files), post));
  }
  return Joined(std::move(external));
}

}  // namespace ray::raylet
