// Credentials as members of a node tell each other, over their Unix socket only.
// Threads: thread-safe.   Errors: none.
#pragma once

#include "ray/net/tls_credentials.h"
#include "ray/wire/v1/connection.pb.h"

namespace ray::net {

inline wire::v1::TlsCredentials ToWire(const TlsCredentials& credentials) {
  wire::v1::TlsCredentials message;
  message.set_certificate(credentials.certificate);
  message.set_key(credentials.key);
  message.set_authority(credentials.authority);
  return message;
}

inline TlsCredentials FromWire(const wire::v1::TlsCredentials& message) {
  return {
      .certificate = message.certificate(), .key = message.key(), .authority = message.authority()};
}

}  // namespace ray::net
