// gcs_server: the cluster's control plane. One a cluster, on the head node.
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/str_split.h"
#include "ray/base/config.h"
#include "ray/base/lock_order.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/gcs_server.h"
#include "ray/gcs/storage.h"
#include "ray/net/daemon_process.h"
#include "ray/net/event_loop.h"
#include "ray/net/tls_credentials.h"

ABSL_FLAG(std::string, listen, "tcp:127.0.0.1:6379",
          "Where to listen: unix:PATH or tcp:HOST:PORT (port 0: any free one); several, separated "
          "by commas. An address that other machines can reach needs --token_file.");
ABSL_FLAG(
    std::string, storage, "memory",
    "Where the state lives: memory (lost with this process), sqlite:PATH or "
    "redis://HOST:PORT/PREFIX (a restart continues from it; password in RAY_REDIS_PASSWORD).");
ABSL_FLAG(std::string, token_file, "",
          "File with the cluster's token, which every caller must send. Empty: none is asked for.");
ABSL_FLAG(std::string, tls_cert_file, "",
          "File (PEM) with this node's certificate, for TLS of the TCP endpoints. With "
          "--tls_key_file and --tls_ca_file; none of them: RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY "
          "and RAY_TLS_CA_CERT if RAY_USE_TLS is 1, else no TLS.");
ABSL_FLAG(std::string, tls_key_file, "", "File (PEM) with the key of that certificate.");
ABSL_FLAG(std::string, tls_ca_file, "",
          "File (PEM) with the certificate of the authority that has signed those of all nodes.");
ABSL_FLAG(std::string, log_file, "", "File to log to; it is rotated. Empty: standard error.");
ABSL_FLAG(std::string, log_level, "",
          "debug, info, warning or error. Empty: the log_level of the configuration.");
ABSL_FLAG(int, ready_fd, -1,
          "Descriptor that gets one line of JSON, {\"endpoints\": [...]} once requests are served "
          "or {\"error\": \"...\"}, and is closed then.");
ABSL_FLAG(int, lifeline_fd, -1,
          "Descriptor of a pipe or socket: when its other end closes, the process exits. So a "
          "local cluster ends with its driver, however that dies.");
ABSL_FLAG(std::string, config, "",
          "Settings of the cluster, name=value, separated by commas. They win over the "
          "environment's RAY_<name>, and travel to every node.");

namespace ray::gcs {
namespace {

void SayReady(const nlohmann::json& message) {
  net::SayReady(absl::GetFlag(FLAGS_ready_fd),
                message.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void StartLogging(const base::Config& config) {
  const std::string level = absl::GetFlag(FLAGS_log_level);
  base::InitLogging({.process_name = "gcs_server",
                     .file = absl::GetFlag(FLAGS_log_file),
                     .level = level.empty() ? config.log_level : level,
                     .rotate_bytes = static_cast<size_t>(config.log_rotate_bytes)});
}

absl::StatusOr<std::unique_ptr<GcsServer>> StartServer(net::EventLoop* loop,
                                                       GcsServer::OnLost on_lost) {
  GcsServer::Options options;
  options.on_storage_lost = std::move(on_lost);
  MANTA_ASSIGN_OR_RETURN(options.config, net::ReadConfig(absl::GetFlag(FLAGS_config)));
  StartLogging(options.config);
  options.listen = absl::StrSplit(absl::GetFlag(FLAGS_listen), ',', absl::SkipWhitespace());
  MANTA_ASSIGN_OR_RETURN(options.token, net::ReadToken(absl::GetFlag(FLAGS_token_file)));
  MANTA_ASSIGN_OR_RETURN(options.tls,
                         net::ReadTlsCredentials({.certificate = absl::GetFlag(FLAGS_tls_cert_file),
                                                  .key = absl::GetFlag(FLAGS_tls_key_file),
                                                  .authority = absl::GetFlag(FLAGS_tls_ca_file)}));
  MANTA_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage,
                         OpenStorage(absl::GetFlag(FLAGS_storage),
                                     absl::Milliseconds(options.config.gcs_storage_lease_ms)));
  return GcsServer::Start(loop, std::move(options), std::move(storage));
}

int Main() {
  net::EventLoop loop;
  net::EndOnSignals(&loop, [&loop] { loop.Stop(); });
  net::EndWithLifeline(&loop, absl::GetFlag(FLAGS_lifeline_fd), [&loop] { loop.Stop(); });

  absl::Status end;
  absl::StatusOr<std::unique_ptr<GcsServer>> server =
      StartServer(&loop, [&](const absl::Status& why) {
        end = why;
        loop.Stop();
      });
  if (!server.ok()) {
    std::cerr << "gcs_server: " << server.status().message() << std::endl;
    SayReady({{"error", std::string(server.status().message())}});
    return 1;
  }
  SayReady({{"endpoints", (*server)->endpoints()}});
  MANTA_LOG(kInfo, "serving");
  loop.Run();
  if (end.ok()) return 0;
  MANTA_LOG(kError, end.message());
  std::cerr << "gcs_server: " << end.message() << std::endl;
  return 1;
}

}  // namespace
}  // namespace ray::gcs

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "The control plane of a cluster: nodes, jobs, actors and the key-value table.\n"
      "Ends in good order on SIGTERM.");
  absl::ParseCommandLine(argc, argv);
  ray::base::StopCheckingLockOrder();
  return ray::gcs::Main();
}
