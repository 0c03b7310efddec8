// The GCS on its sockets: gRPC around the ControlPlane. Every decision is made on the loop; gRPC's
// threads only check the token and post.
//
// The sockets are ours (net::Listen), each accepted connection is handed to gRPC: endpoints mean
// here what they mean everywhere else, and a port that is taken is an error (gRPC would share it).
//
// Owner: main, or a test.   Threads: loop-bound.   Blocks: Start() reads the storage; the
// destructor drives the loop until gRPC has ended its calls, so it must run where the loop is
// driven from, but not inside a handler.
// Errors: Start() reports a socket that cannot be bound, a storage that cannot be read, and
// kInvalidArgument for an endpoint that others than this machine can reach without a token.
//   SERVER-1  no request without the token has any effect.
//   SERVER-2  no request of a peer ends the process.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ray/base/config.h"
#include "ray/gcs/storage.h"
#include "ray/net/event_loop.h"
#include "ray/net/tls_credentials.h"

namespace ray::gcs {

class GcsServer {
 public:
  using OnLost = std::function<void(const absl::Status& why)>;
  struct Options {
    std::vector<std::string> listen;  // "unix:PATH", "tcp:HOST:PORT" (port 0: any)
    std::string token;                // "" = none
    net::TlsCredentials tls;          // for the endpoints of TCP
    base::Config config;
    // Another process has the storage now: this one must end. On the loop.
    OnLost on_storage_lost = nullptr;
  };

  // `loop` outlives the server.
  static absl::StatusOr<std::unique_ptr<GcsServer>> Start(net::EventLoop* loop, Options options,
                                                          std::unique_ptr<Storage> storage);
  ~GcsServer();
  GcsServer(const GcsServer&) = delete;
  GcsServer& operator=(const GcsServer&) = delete;

  // Where it listens, with the ports that were chosen.
  const std::vector<std::string>& endpoints() const;

 private:
  class Impl;
  explicit GcsServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ray::gcs
