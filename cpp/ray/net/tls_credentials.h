// The certificates with which a process of the cluster speaks TLS: all nodes have one that the same
// authority has signed, and each side asks for the other's.
// Threads: immutable values; ReadTlsCredentials without names from main, before other threads
// start.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace ray::net {

struct TlsFiles {
  std::string certificate;
  std::string key;
  std::string authority;
};

// As PEM text. All empty: no TLS.
struct TlsCredentials {
  std::string certificate;  // this process's, then those up to the authority's, if there are any
  std::string key;
  std::string authority;
  TlsFiles files = {};  // that this was read from; empty: none
  bool enabled() const { return !certificate.empty(); }
};

// Reads the files. If none is named, those of the environment's RAY_TLS_SERVER_CERT,
// RAY_TLS_SERVER_KEY and RAY_TLS_CA_CERT, provided that RAY_USE_TLS is 1 or true. kInvalidArgument
// if only some are named or one cannot be read.
absl::StatusOr<TlsCredentials> ReadTlsCredentials(TlsFiles files);

}  // namespace ray::net
