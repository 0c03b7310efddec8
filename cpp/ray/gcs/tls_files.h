// Certificates for gRPC that are read anew when their files change.
// Threads: thread-safe; gRPC looks at the files on a thread of its own.   Errors: none.
#pragma once

#include <grpcpp/security/tls_certificate_provider.h>

#include <algorithm>
#include <memory>

#include "absl/time/time.h"
#include "ray/net/tls_credentials.h"

namespace ray::gcs {

// Null: they came from no files, or are not to be looked at (`interval` zero).
inline std::shared_ptr<grpc::experimental::FileWatcherCertificateProvider> WatchTlsFiles(
    const net::TlsCredentials& credentials, absl::Duration interval) {
  const net::TlsFiles& files = credentials.files;
  if (files.certificate.empty() || interval <= absl::ZeroDuration()) return nullptr;
  const auto seconds = std::max<int64_t>(absl::ToInt64Seconds(interval), 1);
  return std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
      files.key, files.certificate, files.authority, static_cast<unsigned>(seconds));
}

}  // namespace ray::gcs
