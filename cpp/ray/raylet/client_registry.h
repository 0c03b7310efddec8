// Who is connected: takes connections through their HELLO, keeps the clients, tells of their end,
// and closes those that break the protocol (with an ERROR frame and a logged reason).
//
// Owner: Raylet.   Threads: loop-bound.   Errors: a peer's fault ends its own connection and
// nothing else.
//   CLIENTS-1  on_gone runs once for each client that joined, which is found no more then.
//   CLIENTS-2  no two clients share a worker id.
//   CLIENTS-3  who comes from another node is a raylet; who comes from this one is not. Connections
//              for bytes of objects come from either, are handed over, and are no clients.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ray/net/connection.h"
#include "ray/net/event_loop.h"
#include "ray/net/lasting_connections.h"
#include "ray/raylet/client.h"
#include "ray/raylet/frame_router.h"
#include "ray/raylet/node_identity.h"

namespace ray::raylet {

class ClientRegistry {
 public:
  struct Options {
    const NodeIdentity* identity = nullptr;
    // For clients of this node, which speak to those of other nodes.
    std::string cluster_token;
    net::TlsCredentials tls;
    int store_fd = -1;  // of the store's memory; sent along with HelloReply
    uint64_t store_capacity_bytes = 0;
    absl::Duration handshake_timeout = absl::Seconds(5);
  };

  // What a driver's job became, or why it cannot run.
  struct Job {
    base::JobId id;
    std::string job_namespace;
  };
  using JobCallback = absl::AnyInvocable<void(absl::StatusOr<Job>)>;

  // This node, or another one (perhaps of the same machine).
  enum class From { kThisNode, kOtherNode };

  struct Events {
    // A driver said HELLO: register its job.
    std::function<void(const wire::v1::Hello&, JobCallback)> add_job;
    // The driver was gone before its job was added.
    std::function<void(const base::JobId&)> drop_job;
    // Whether a worker that this raylet forked carries this token.
    std::function<bool(uint64_t startup_token)> expects_worker;
    // The handshake is over and HelloReply is sent.
    std::function<void(Client&, const wire::v1::Hello&)> on_joined;
    std::function<void(const Client&, const absl::Status& why)> on_gone;
    // That node's raylet opened a connection for bytes of objects; its HELLO is answered. One on
    // this machine has the store's memory now.
    std::function<void(const base::NodeId&, From, net::Connection&)> on_stream;
  };

  // All pointers outlive the registry.
  ClientRegistry(net::EventLoop* loop, const FrameRouter* router, net::LastingConnections* lasting,
                 Options options, Events events);
  ~ClientRegistry();

  // Clients of this node speak TLS with these from now on.
  void UseTls(const net::TlsCredentials& tls);
  // Takes over a connection that has not started.
  void Accept(std::shared_ptr<net::Connection> connection, From from = From::kThisNode);

  // nullptr when there is none (any more).
  Client* Find(scheduling::ClientId id) const;
  Client* FindByWorker(const base::WorkerId& worker) const;
  void ForEach(const std::function<void(Client&)>& visit) const;

 private:
  struct Peer;

  void OnFrame(const std::shared_ptr<net::Connection>& connection, const net::Frame& frame);
  void OnClose(const std::shared_ptr<net::Connection>& connection, const absl::Status& why);
  absl::Status OnFirstFrame(const std::shared_ptr<net::Connection>& connection,
                            const net::Frame& frame);
  absl::Status OnHello(const std::shared_ptr<net::Connection>& connection, const net::Frame& frame);
  absl::Status CheckHello(const wire::v1::Hello& hello, From from) const;
  absl::Status CheckWorkerId(const wire::v1::Hello& hello) const;
  void JoinDriver(const std::shared_ptr<net::Connection>& connection, uint64_t correlation_id,
                  const wire::v1::Hello& hello, absl::StatusOr<Job> job);
  void Join(const std::shared_ptr<net::Connection>& connection, uint64_t correlation_id,
            const wire::v1::Hello& hello, const Job& job);
  void HandOver(const std::shared_ptr<net::Connection>& connection, uint64_t correlation_id,
                const wire::v1::Hello& hello, From from);
  void Refuse(const std::shared_ptr<net::Connection>& connection, const absl::Status& why);

  net::EventLoop* const loop_;
  const FrameRouter* const router_;
  net::LastingConnections* const lasting_;  // of other raylets
  const Options options_;
  net::TlsCredentials tls_;
  const Events events_;
  // Callbacks that come back after the registry's end see that it expired.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  scheduling::ClientId next_id_ = 1;
  absl::flat_hash_map<scheduling::ClientId, std::shared_ptr<Client>> clients_;
  absl::flat_hash_map<base::WorkerId, Client*> by_worker_;
  absl::flat_hash_map<net::Connection*, std::shared_ptr<Peer>> joining_;
};

}  // namespace ray::raylet
