#include "ray/net/tls_credentials.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"

namespace ray::net {
namespace {

std::string FromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool IsAskedForByEnvironment() {
  const std::string value = FromEnvironment("RAY_USE_TLS");
  return value == "1" || absl::EqualsIgnoreCase(value, "true");
}

absl::StatusOr<std::string> ReadPem(const std::string& path, const char* what) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file || !absl::StrContains(text.str(), "-----BEGIN ")) {
    return absl::InvalidArgumentError(absl::StrCat("TLS: the ", what, " cannot be read from '",
                                                   path, "' (a file in PEM format)"));
  }
  return text.str();
}

}  // namespace

absl::StatusOr<TlsCredentials> ReadTlsCredentials(TlsFiles files) {
  const bool none_named = files.certificate.empty() && files.key.empty() && files.authority.empty();
  if (none_named && !IsAskedForByEnvironment()) return TlsCredentials{};
  if (none_named) {
    files = {.certificate = FromEnvironment("RAY_TLS_SERVER_CERT"),
             .key = FromEnvironment("RAY_TLS_SERVER_KEY"),
             .authority = FromEnvironment("RAY_TLS_CA_CERT")};
  }
  if (files.certificate.empty() || files.key.empty() || files.authority.empty()) {
    return absl::InvalidArgumentError(
        "TLS needs a certificate, its key and the certificate of the authority: name all of "
        "--tls_cert_file, --tls_key_file and --tls_ca_file, or RAY_TLS_SERVER_CERT, "
        "RAY_TLS_SERVER_KEY and RAY_TLS_CA_CERT");
  }
  TlsCredentials credentials;
  MANTA_ASSIGN_OR_RETURN(credentials.certificate, ReadPem(files.certificate, "certificate"));
  MANTA_ASSIGN_OR_RETURN(credentials.key, ReadPem(files.key, "key"));
  MANTA_ASSIGN_OR_RETURN(credentials.authority, ReadPem(files.authority, "authority"));
  credentials.files = std::move(files);
  return credentials;
}

}  // namespace ray::net
