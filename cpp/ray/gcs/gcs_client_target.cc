#include "ray/gcs/gcs_client_target.h"

#include <fcntl.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace ray::gcs {
namespace {

constexpr std::string_view kUnix = "unix:";
constexpr std::string_view kTcp = "tcp:";

absl::StatusOr<GrpcTarget> UnixTarget(const std::string& path) {
  if (path.size() < sizeof(sockaddr_un::sun_path)) return GrpcTarget{absl::StrCat("unix:", path)};
  const size_t slash = path.rfind('/');
  GrpcTarget target;
  if (slash != std::string::npos) {
    target.directory.Reset(open(path.substr(0, slash).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  if (!target.directory.valid()) {
    return absl::UnavailableError(
        absl::StrCat("cannot open the folder of the socket ", path, ": ", std::strerror(errno)));
  }
  target.name = absl::StrCat("unix:/proc/self/fd/", target.directory.get(), path.substr(slash));
  return target;
}

}  // namespace

absl::StatusOr<GrpcTarget> ToGrpcTarget(std::string_view endpoint) {
  if (endpoint.starts_with(kUnix)) return UnixTarget(std::string(endpoint.substr(kUnix.size())));
  if (endpoint.starts_with(kTcp)) return GrpcTarget{std::string(endpoint.substr(kTcp.size()))};
  return absl::InvalidArgumentError(
      absl::StrCat("'", absl::string_view(endpoint.data(), endpoint.size()),
                   "' is neither unix:PATH nor tcp:HOST:PORT"));
}

}  // namespace ray::gcs
